"""What few steps cost a sampler's law: jumps in codes of a Markov chain whose conditionals the network knows exactly.

Whatever it is asked, the network answers rightly, so all that is wrong is that tokens of one call do not see each
other. Codes of 32 tokens, 4 kinds, which stay with probability 0.9; the chain jumps 3.1 times a code. Prints Markdown.
"""

import argparse

import torch

from anyorder.factorization import FactorizationConfig, Request
from anyorder.testing.toy import ChainNetwork, mean_jumps

SAMPLERS = {
    "left_to_right": {"sampler": "left_to_right"},
    "spread": {"sampler": "spread"},
    "ancestral": {"sampler": "ancestral"},
    "ancestral, maskgit": {"sampler": "ancestral", "sampling_schedule": "maskgit"},
    "ancestral, cosine": {"sampler": "ancestral", "sampling_schedule": "cosine"},
    "ancestral, polynomial": {"sampler": "ancestral", "sampling_schedule": "polynomial"},
    "remasking": {"sampler": "remasking"},
    "confidence": {"sampler": "confidence"},
    "confidence, maskgit": {"sampler": "confidence", "sampling_schedule": "maskgit"},
}
STEPS = (4, 8, 16, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codes", type=int, default=2000, help="codes a cell")
    codes = parser.parse_args().codes
    chain = ChainNetwork()
    print(f"mean jumps in {codes} codes; the chain itself: {chain.jumps:.2f}\n")
    print(f"| sampler | {' | '.join(f'{steps} steps' for steps in STEPS)} |")
    print("|---|" + "---:|" * len(STEPS))
    for name, options in SAMPLERS.items():
        found = [drawn_jumps(chain, codes, {**options, "steps": steps}) for steps in STEPS]
        print(f"| {name} | {' | '.join(f'{jumps:.2f}' for jumps in found)} |", flush=True)


def drawn_jumps(chain: ChainNetwork, codes: int, options: dict[str, object]) -> float:
    """Return the mean jumps in codes that a sampler draws."""
    family = FactorizationConfig.named("masked_diffusion", **options).build()
    sample = family.sample(chain, torch.zeros(codes, 1, 1), Request(torch.Generator().manual_seed(0)))
    return mean_jumps(sample.chunk)


if __name__ == "__main__":
    main()
