"""What sampling only legal codes costs: CPU seconds of a sample with and without the constraint, medians.

A FAST code of chunks of 50 steps and 14 dimensions (700 coefficients), a network of width 64 and depth 2, one thread.
Prints Markdown. `PYTHONPATH=OTHER/src python benchmarks/bench_constraint.py` times another version of the package.
"""

import argparse
import statistics
import time

import torch

from anyorder.factorization import FactorizationConfig, Request
from anyorder.networks import SlotNetwork, TransformerConfig
from anyorder.tokenizers import TokenizerConfig

SETTINGS = (
    ("autoregressive", {}),
    ("masked_diffusion", {"steps": 32}),
    ("masked_diffusion", {"sampler": "confidence", "steps": 32}),
    ("masked_diffusion", {"sampler": "first_hitting"}),
    ("score_entropy", {}),
)
HORIZON, ACTIONS, WIDTH = 50, 14, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16], help="samples at a time")
    parser.add_argument("--noise", type=float, default=0.0, help="of the chunks: more of it makes longer codes")
    parser.add_argument("--repeats", type=int, default=3, help="times a cell")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = TokenizerConfig.named("fast", max_merges=8).fit(smooth(400, options.noise))
    torch.manual_seed(0)
    network = SlotNetwork(TransformerConfig(WIDTH, 2, 4).build(), tokenizer.length, tokenizer.vocab_size).eval()
    print(f"codes of {tokenizer.length} tokens, {tokenizer.constraint.states} states\n")
    print(f"| family | {' | '.join(f'batch {batch}: plain | legal | ratio' for batch in options.batches)} |")
    print("|---|" + "---:|" * 3 * len(options.batches))
    for name, settings in SETTINGS:
        family = FactorizationConfig.named(name, **settings).build()
        cells = []
        for batch in options.batches:
            plain, legal = (
                statistics.median(seconds(family, network, batch, constraint) for _ in range(options.repeats))
                for constraint in (None, tokenizer.constraint)
            )
            cells.append(f"{plain:.2f} | {legal:.2f} | {legal / plain:.1f}")
        label = " ".join([name, *(f"{key}={value}" for key, value in settings.items())])
        print(f"| {label} | {' | '.join(cells)} |", flush=True)


def smooth(count: int, noise: float) -> torch.Tensor:
    """Return chunks (count, horizon, actions) of six random cosines a dimension, in [-1, 1]."""
    source = torch.Generator().manual_seed(0)
    weights = torch.randn(count, 6, ACTIONS, generator=source) / torch.arange(1, 7).view(1, -1, 1) ** 1.2
    time_steps = (torch.arange(HORIZON) + 0.5) / HORIZON
    waves = torch.stack([torch.cos(torch.pi * k * time_steps) for k in range(6)], 1)
    chunks = torch.einsum("tk,nkd->ntd", waves, weights)
    return (chunks / chunks.abs().amax() + noise * torch.randn(chunks.shape, generator=source)).clamp(-1, 1)


@torch.no_grad()
def seconds(family, network, batch, constraint) -> float:  # type: ignore[no-untyped-def]
    """Return the CPU time of one call."""
    context, source = torch.zeros(batch, 4, WIDTH), torch.Generator().manual_seed(1)
    start = time.process_time()
    family.sample(network, context, Request(source, constraint=constraint))
    return time.process_time() - start


if __name__ == "__main__":
    main()
