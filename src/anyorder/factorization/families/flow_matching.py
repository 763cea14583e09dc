"""Flow matching over the continuous chunk: straight lines from noise to data."""

from dataclasses import dataclass

import torch
from torch import Tensor

from anyorder.factorization.base import Factorization, FactorizationConfig, Sample, ValueNetwork
from anyorder.factorization.checks import check_sampling, require
from anyorder.factorization.constraint import TokenAutomaton
from anyorder.factorization.families.gaussian_diffusion import check_values, overwrite
from anyorder.factorization.noise import fractions, normals
from anyorder.factorization.precision import at_least_float32


class FlowMatching(Factorization):
    """Conditional flow matching on straight paths (rectified flow, arXiv 2209.03003, 2210.02747; pi0, 2410.24164).

    Formula: ``x_t = (1 - t) x + t e``; the network predicts ``e - x`` from ``(x_t, t, c)`` under a squared error, t
    uniform. Sampling integrates it from t = 1 to 0 in equal Euler steps. Left out: other laws of t, reflow, the
    likelihood.

    Args:
        inference_steps: network calls per chunk.
    """

    discrete = False
    reads = "values"
    exact = None
    infills = "approximate"

    def __init__(self, inference_steps: int) -> None:
        self.inference_steps = inference_steps

    def forwards(self, length: int) -> int:
        """Return the number of Euler steps."""
        return self.inference_steps

    def loss(
        self, network: ValueNetwork, chunk: Tensor, context: Tensor, *, generator: torch.Generator
    ) -> Tensor:
        """Return the squared error of the velocity per sequence, mean over the chunk's values."""
        chunk = at_least_float32(chunk)
        noise = normals(chunk.shape, chunk, generator)
        times = fractions(chunk.shape[:1], chunk.device, generator, chunk.dtype)
        t = times.view(-1, 1, 1)
        velocity = network((1 - t) * chunk + t * noise, times, network.prefill(context))
        return (velocity - (noise - chunk)).square().mean((1, 2))

    def sample(
        self,
        network: ValueNetwork,
        context: Tensor,
        *,
        generator: torch.Generator,
        temperature: float = 1.0,
        nucleus: float = 1.0,
        constraint: TokenAutomaton | None = None,
        known: Tensor | None = None,
    ) -> Sample:
        """Integrate from Gaussian noise; ``known`` values (NaN where free) are put in, noised, before every step."""
        check_sampling(temperature, nucleus)
        check_values(network, context, constraint, known)
        batch, steps = context.shape[0], self.inference_steps
        shape = (batch, network.horizon, network.action_size)
        noise = normals(shape, at_least_float32(context), generator)
        cache = network.prefill(context)
        x = noise
        for step in range(steps):
            t = 1 - step / steps
            if known is not None:
                x = overwrite(x, (1 - t) * known.to(x) + t * noise)
            x = x - network(x, torch.full((batch,), t).to(x), cache) / steps
        x = x if known is None else overwrite(x, known)
        return Sample(x, None, steps, steps * network.horizon)


@dataclass
class FlowMatchingConfig(FactorizationConfig, choice="flow_matching"):
    """Flow matching.

    Attributes:
        inference_steps: network calls per chunk.
    """

    inference_steps: int = 10

    def build(self) -> FlowMatching:
        """Make the factorization."""
        steps = self.inference_steps
        require(steps >= 1, "factorization.inference_steps", steps, "an integer >= 1")
        return FlowMatching(steps)
