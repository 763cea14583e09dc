"""How a chunk of values enters and leaves the trunk: one slot per time step, that step's action in it."""

from torch import Tensor, nn

from anyorder.factorization.noise_time import sinusoidal
from anyorder.factorization.precision import at_least_float32
from anyorder.networks.transformer import Cache, Transformer


class ChunkNetwork(nn.Module):
    """Trunk with one slot per time step, carrying that step's action values.

    Args:
        trunk: the transformer.
        horizon: time steps in a chunk.
        action_size: dimensions of an action.
        vocab_size: number of tokens, where values stand for tokens.
        limit: the largest absolute value of the numbers, as they are normalized; infinity where there is none.
    """

    def __init__(
        self, trunk: Transformer, horizon: int, action_size: int, vocab_size: int | None = None, limit: float = 1.0
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.limit = limit
        width = trunk.config.width
        self.trunk = trunk
        self.horizon = horizon
        self.action_size = action_size
        self.value_in = nn.Linear(action_size, width, bias=False)
        self.position_embedding = nn.Embedding(horizon, width)
        self.time_mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.value_out = nn.Linear(width, action_size)
        nn.init.normal_(self.position_embedding.weight, std=width**-0.5)
        nn.init.zeros_(self.value_out.weight)
        nn.init.zeros_(self.value_out.bias)

    def prefill(self, context: Tensor) -> Cache:
        """Encode context (batch, context tokens, width) once."""
        return self.trunk.prefill(context)

    def forward(self, values: Tensor, cache: Cache, times: Tensor | None = None) -> Tensor:
        """Map values (batch, horizon, action size) at times in [0, 1] (batch,) to the same shape."""
        weight = self.value_in.weight
        x = self.value_in(values.to(weight)) + self.position_embedding.weight
        if times is not None:
            told = sinusoidal(at_least_float32(times), x.shape[-1]).to(weight)
            x = x + self.time_mlp(told).unsqueeze(1)
        features, _ = self.trunk(x, cache)
        out: Tensor = self.value_out(features)
        return out
