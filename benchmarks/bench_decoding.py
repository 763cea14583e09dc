"""Network calls and milliseconds of autoregression, token by token and with lookahead.

Trained policies, given observations of a dataset (of held-out episodes, if there are any), and fresh networks for codes
of 16 x 6 and 50 x 14 tokens. Greedy and sampled, one thread, medians; the settings take turns. ``equal`` is the share
of chunks whose tokens are those of token by token, drawn by the same seed. Prints Markdown.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anyorder.factorization import Request, Sample, TokenAutomaton
from anyorder.factorization.families.autoregressive import Autoregressive
from anyorder.networks import SlotNetwork, TransformerConfig

FRESH = {"16 x 6": 96, "50 x 14": 700}
VOCAB, WIDTH = 128, 64


@dataclass
class Case:
    """A network, what it has seen, and which codes are legal."""

    name: str
    network: Any
    contexts: Sequence[Tensor]
    constraint: TokenAutomaton | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policies", type=Path, nargs="*", default=[], help="checkpoints of autoregressive policies")
    parser.add_argument("--root", type=Path, help="dataset that the policies observe")
    parser.add_argument("--lookahead", type=int, nargs="+", default=[0, 8, 32, 1000], help="tokens a call; 0: default")
    parser.add_argument("--chunks", type=int, default=10, help="draws to time")
    parser.add_argument("--batch", type=int, default=1, help="chunks drawn together")
    parser.add_argument("--fresh", action="store_true", help="also fresh networks")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cases = [trained(path, options.root, options.chunks, options.batch) for path in options.policies]
    if options.fresh:
        cases += [fresh(name, length, options.chunks, options.batch) for name, length in FRESH.items()]
    print("| network | tokens | temperature | lookahead | calls | share | slots | ms | equal |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for case in cases:
        for temperature in (0.0, 1.0):
            for row in compare(case, temperature, [1, *options.lookahead]):
                print(row, flush=True)


def trained(path: Path, root: Path, chunks: int, batch: int) -> Case:
    """Return a policy's network with the contexts of observations spread over a dataset."""
    from anyorder.training.checkpoint import load_policy
    from anyorder.training.config import DatasetConfig
    from anyorder.training.data import load_chunks

    policy = load_policy(path, "cpu").eval()
    train, held = load_chunks(DatasetConfig(root=str(root), allow_short=True), policy.config.chunk_size)
    source = held if held.frames else train
    rows = torch.linspace(0, source.frames - 1, chunks * batch).long().view(batch, chunks)
    with torch.no_grad():
        contexts = [policy.context(source.batch(row)) for row in rows.T]
    return Case(path.name, policy.network, contexts, policy.tokenizer.constraint)


def fresh(name: str, length: int, chunks: int, batch: int) -> Case:
    """Return a network that was not trained, with random contexts."""
    torch.manual_seed(0)
    network = SlotNetwork(TransformerConfig(WIDTH, 2, 4).build(), length, VOCAB).eval()
    return Case(f"fresh {name}", network, list(torch.randn(chunks, batch, 4, WIDTH)))


@torch.no_grad()
def compare(case: Case, temperature: float, lookaheads: list[int]) -> list[str]:
    """Return a row of the table for each lookahead, the first of which is the one that others have to equal."""
    drawn: dict[int, list[Sample]] = {ahead: [] for ahead in lookaheads}
    seconds: dict[int, list[float]] = {ahead: [] for ahead in lookaheads}
    for number, context in enumerate([case.contexts[0], *case.contexts]):
        for ahead in lookaheads:
            request = Request(torch.Generator().manual_seed(number), temperature, constraint=case.constraint)
            start = time.perf_counter()
            sample = Autoregressive(lookahead=ahead or None).sample(case.network, context, request)
            if number:  # the first one warms up
                seconds[ahead].append(time.perf_counter() - start)
                drawn[ahead].append(sample)
    rows = []
    length = case.network.length
    for ahead in lookaheads:
        calls = statistics.mean(sample.calls for sample in drawn[ahead])
        slots = statistics.mean(sample.slots for sample in drawn[ahead])
        pairs = zip(drawn[ahead], drawn[lookaheads[0]], strict=True)
        equal = statistics.mean(float(torch.equal(one.chunk, other.chunk)) for one, other in pairs)
        milliseconds = 1000 * statistics.median(seconds[ahead])
        rows.append(
            f"| {case.name} | {length} | {temperature:g} | {ahead or 'default'} | {calls:.1f} | {calls / length:.0%} |"
            f" {slots:.0f} | {milliseconds:.1f} | {equal:.0%} |"
        )
    return rows


if __name__ == "__main__":
    main()
