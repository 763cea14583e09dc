"""Every tokenizer against the published FAST done chunk by chunk: speed, length and error in one run.

    python benchmarks/bench_tokenizer.py [--horizon 16] [--action-size 6] [--chunks 4096]

The baseline transforms each chunk with scipy, writes the rounded coefficients as characters and encodes their
UTF-8 bytes with the Rust ``tokenizers`` library (ByteLevel, arXiv 2501.09747).
"""

import argparse
import time

import numpy as np
import scipy.fft
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from anyorder.tokenizers import TokenizerConfig


class ByteLevelFast:
    """The published algorithm, one chunk a time."""

    def __init__(self, chunks, scale=10.0, vocab_size=1024):
        self.horizon, self.action_size = chunks.shape[1:]
        self.scale = scale
        coefficients = [self.coefficients(chunk) for chunk in chunks]
        self.low = min(c.min() for c in coefficients)
        high = max(c.max() for c in coefficients)
        self.model = Tokenizer(models.BPE())
        self.model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        self.model.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            initial_alphabet=[chr(i) for i in range(high - self.low + 1)],
            special_tokens=[],
            max_token_length=10_000,
            show_progress=False,
        )
        self.model.train_from_iterator((self.text(c) for c in coefficients), trainer)

    def coefficients(self, chunk):
        """Return the rounded coefficients of one chunk, frequency-major."""
        return np.around(scipy.fft.dct(chunk, axis=0, norm="ortho") * self.scale).astype(int).flatten()

    def text(self, coefficients):
        """Write coefficients as characters."""
        return "".join(map(chr, np.maximum(coefficients - self.low, 0)))

    def encode(self, chunks):
        """Return a list of token ids for each chunk."""
        return [self.model.encode(self.text(self.coefficients(chunk))).ids for chunk in chunks]

    def decode(self, codes):
        """Return chunks, zeros where a code has the wrong number of coefficients, as published."""
        out = np.zeros((len(codes), self.horizon, self.action_size))
        for i, code in enumerate(codes):
            coefficients = np.array([ord(c) for c in self.model.decode(code)]) + self.low
            if len(coefficients) == self.horizon * self.action_size:
                coefficients = coefficients.reshape(self.horizon, self.action_size)
                out[i] = scipy.fft.idct(coefficients / self.scale, axis=0, norm="ortho")
        return out


def smooth_chunks(count, horizon, action_size, generator):
    """Slow sines with a little noise; the last dimension is a gripper that switches at most once."""
    amplitude, offset, frequency, phase = torch.rand(4, count, 1, action_size, generator=generator)
    wave = torch.sin(2 * torch.pi * (1.5 * frequency * torch.linspace(0, 1, horizon).view(1, -1, 1) + phase))
    noise = 0.01 * torch.randn(count, horizon, action_size, generator=generator)
    chunks = 0.6 * (offset - 0.5) + (0.1 + 0.5 * amplitude) * wave + noise
    switch = torch.randint(-horizon, 2 * horizon, (count, 1), generator=generator)
    chunks[:, :, -1] = torch.where(torch.arange(horizon) < switch, -1.0, 1.0)
    return chunks.clamp(-1, 1)


def per_second(function, argument, count, seconds=1.0):
    """Return items per second: the best of repeated calls, for at least ``seconds``."""
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        function(argument)
        best = min(best, time.perf_counter() - start)
    return count / best


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--horizon", type=int, default=16)
    parser.add_argument("--action-size", type=int, default=6)
    parser.add_argument("--chunks", type=int, default=4096)
    options = parser.parse_args()
    torch.set_num_threads(1)

    generator = torch.Generator().manual_seed(0)
    shape = (options.horizon, options.action_size)
    fit, chunks = (smooth_chunks(n, *shape, generator) for n in (5000, options.chunks))
    arrays = chunks.double().numpy()
    start = time.perf_counter()
    published = ByteLevelFast(fit.double().numpy())
    fit_s = time.perf_counter() - start
    codes = published.encode(arrays)
    error = np.sqrt(np.square(published.decode(codes) - arrays).mean())
    batches = sorted({1, options.chunks})
    speed = [
        per_second(call, given[:batch], batch)
        for call, given in ((published.encode, arrays), (published.decode, codes))
        for batch in batches
    ]

    print(f"{options.chunks} chunks of {shape[0]} x {shape[1]} values, 1 thread. Chunks/s, and times the baseline's.")
    verbs = [f"{verb}, batch {batch}" for verb in ("encode", "decode") for batch in batches]
    print("| tokenizer | fit 5000, s | tokens | rmse | " + " | ".join(verbs) + " |")
    print("|---|---:|---:|---:|" + "---:|" * len(verbs))
    length = np.mean([len(code) for code in codes])
    cells = " | ".join(f"{s:,.0f}" for s in speed)
    print(f"| scipy + byte-level BPE, a chunk at a time | {fit_s:.1f} | {length:.1f} | {error:.4f} | {cells} |")
    published_settings = ("fast", {"scale": 10.0, "max_merges": 4096})
    for name, settings in [(name, {}) for name in sorted(TokenizerConfig.choices)] + [published_settings]:
        start = time.perf_counter()
        ours = TokenizerConfig.named(name, **settings).fit(fit)
        fit_s = time.perf_counter() - start
        tokens = ours.encode(chunks)
        error = (ours.decode(tokens) - chunks).square().mean().sqrt()
        # END is not counted: the baseline has none.
        length = ours.token_count(tokens).double().mean() - int(ours.pad_token is not None)
        mine = [
            per_second(call, given[:batch], batch)
            for call, given in ((ours.encode, chunks), (ours.decode, tokens))
            for batch in batches
        ]
        cells = " | ".join(f"{a:,.0f} ({a / b:.1f}x)" for a, b in zip(mine, speed, strict=True))
        label = " ".join([name, *(f"{key}={value}" for key, value in settings.items())])
        print(f"| {label} | {fit_s:.1f} | {length:.1f} | {error:.4f} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
