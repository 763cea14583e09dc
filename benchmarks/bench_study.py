"""One training step of a study's models: one model at a time, or many stacked in one program (torch.func).

    python benchmarks/bench_study.py [--members 8] [--steps 20]

Prints Markdown: milliseconds of CPU time of one core for a step of one model, and the speed that 6 N D gives. Stacked
models are called by ``vmap`` over ``functional_call``, one fused AdamW over all; the time is divided by their number.
"""

import argparse
import time
import warnings

import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from anyorder.factorization import FactorizationConfig
from anyorder.networks import SlotNetwork
from anyorder.studies.config import SizeConfig

LENGTH, VOCABULARY, OBSERVED = 32, 127, 43
SHAPES = [(w, b) for w in (16, 32, 64, 128) for b in (4, 16, 64)]


class Model(nn.Module):
    """A study's encoder and network, giving the loss of a batch."""

    def __init__(self, width, family):
        super().__init__()
        size = SizeConfig()
        self.width, self.tokens = width, size.encoder_tokens
        hidden = size.encoder(width).hidden
        self.encoder = nn.Sequential(
            nn.Linear(OBSERVED, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, self.tokens * width),
        )
        self.network = SlotNetwork(size.network(width).build(), LENGTH, VOCABULARY)
        self.family = FactorizationConfig.named(family).build()
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, codes, seen):
        """Return the mean loss of codes (batch, length) given observations (batch, observed)."""
        context = self.encoder(seen).view(len(seen), self.tokens, self.width)
        return self.family.loss(self.network, codes, context, generator=self.generator).mean()


def cpu_ms(step, steps):
    """Return the CPU milliseconds of a step, after two that warm up."""
    step()
    step()
    start = time.process_time()
    for _ in range(steps):
        step()
    return (time.process_time() - start) / steps * 1e3


def alone(model, codes, seen):
    """Return the step of one model."""
    return stepper(list(model.parameters()), lambda: model(codes, seen))


def stepper(parameters, loss):
    """Return a function that takes one optimiser step."""
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)

    def step():
        loss().backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def stacked(members, codes, seen):
    """Return the step of many models in one program."""
    state = {k: v.detach().clone().requires_grad_() for k, v in stack_module_state(members)[0].items()}
    one = members[0]

    def loss():
        def call(p):
            return functional_call(one, (p, {}), (codes, seen))

        return vmap(call, randomness="different")(state).sum()

    return stepper(list(state.values()), loss)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="There is a performance drop")
    print(f"| width | params | chunks | AR, ms | GFLOP/s | {options.members} AR stacked, ms each | masked, ms |")
    print("|---|---|---|---|---|---|---|")
    for width, batch in SHAPES:
        codes = torch.randint(VOCABULARY, (batch, LENGTH))
        seen = torch.randn(batch, OBSERVED)
        steps = max(3, options.steps // (1 + width // 64))
        found = []
        for family in ("autoregressive", "masked_diffusion"):
            model = Model(width, family)
            found.append(cpu_ms(alone(model, codes, seen), steps))
        params = sum(p.numel() for p in model.parameters())
        members = [Model(width, "autoregressive") for _ in range(options.members)]
        together = cpu_ms(stacked(members, codes, seen), steps) / options.members
        speed = 6 * params * batch * LENGTH / found[0] / 1e6
        print(
            f"| {width} | {params:,} | {batch} | {found[0]:.1f} | {speed:.1f} | {together:.1f} | {found[1]:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
