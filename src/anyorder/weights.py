"""What may stand in a model's weights and buffers; every module that owns buffers says it by its ``rules``."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

from anyorder.errors import CheckpointError
from anyorder.files import Words


class Rule(NamedTuple):
    """What one buffer may hold.

    Attributes:
        name: of the buffer.
        values: what it holds.
        right: where it may be so, bool, of the same shape.
        allowed: in words.
    """

    name: str
    values: Tensor
    right: Tensor
    allowed: str


@runtime_checkable
class Ruled(Protocol):
    """A module with buffers that may hold other than any finite number."""

    def rules(self) -> Iterable[Rule]:
        """Return what its buffers may hold; the others, and all weights, have to be finite."""


def check_state(model: nn.Module) -> None:
    """Check all weights and buffers of a model.

    Raises:
        CheckpointError: one is not finite or breaks a rule of its module; it is named.
    """
    for path, module in model.named_modules():
        own = list(module.rules()) if isinstance(module, Ruled) else []
        ruled = {rule.name for rule in own}
        for rule in [*(rule for rule in finite(module) if rule.name not in ruled), *own]:
            if not bool(rule.right.all()):
                name = f"{path}.{rule.name}" if path else rule.name
                wrong = rule.values[~rule.right].flatten()
                more = f" ({len(wrong)} values are wrong)" if len(wrong) > 1 else ""
                raise CheckpointError(name, Words(f"{wrong[0].item()}{more}"), rule.allowed)


def finite(module: nn.Module) -> Iterator[Rule]:
    """Give the rule of all numbers of floating point that are a module's own."""
    for own in (module.named_parameters(recurse=False), module.named_buffers(recurse=False)):
        for name, values in own:
            if values.is_floating_point():
                yield Rule(name, values, values.isfinite(), "finite numbers")
