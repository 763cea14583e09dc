"""A pretend device: tensors on the CPU that say they are elsewhere, and refuse what another device refuses.

Two devices in one operation raise, as they do on a GPU; so does float64 where the device is ``mps``.
"""

import torch
from torch.overrides import TorchFunctionMode

CONVERSIONS = ("to", "cpu", "double", "float", "type_as")
MIXED = ("__setitem__", "copy_", "set_data")
"""What may take tensors of two devices."""


class Far(torch.Tensor):
    """A tensor that is on the pretend device."""


class FarGenerator(torch.Generator):
    """A generator that is on the pretend device."""

    device = None


def held(value):
    """Yield the tensors in nested tuples and lists."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for x in value:
            yield from held(x)


def mapped(value, change):
    """Return nested tuples, lists and dicts with every tensor changed."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, dict):
        return {name: mapped(x, change) for name, x in value.items()}
    if type(value) in (tuple, list):
        return type(value)(mapped(x, change) for x in value)
    if isinstance(value, tuple):  # torch's named tuples, as of max
        return tuple(mapped(x, change) for x in value)
    return value


class Pretend(TorchFunctionMode):
    """While it is on, the device ``name`` exists."""

    def __init__(self, name):
        super().__init__()
        self.device = torch.device(name)

    def far(self, tensor):
        """Return a tensor as one of the pretend device."""
        return tensor.detach().as_subclass(Far)

    def network(self, network):
        """Move a network there: its parameters become buffers."""
        for module in network.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                del module._parameters[name]
                module.register_buffer(name, self.far(parameter))
        return network

    def generator(self, seed):
        """Return a generator of the pretend device."""
        FarGenerator.device = self.device
        return FarGenerator().manual_seed(seed)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        tensors = list(held((args, tuple(kwargs.values()))))
        here = any(isinstance(x, Far) for x in tensors)
        if func == torch.Tensor.device.__get__:
            return self.device if here else torch.device("cpu")
        if name in CONVERSIONS:
            here, args, kwargs = self.converted(name, args, kwargs)
        elif kwargs.get("device") is not None:
            here = torch.device(kwargs.pop("device")).type == self.device.type
            self.check_generator(kwargs.get("generator"), here)
        else:
            index = name == "__getitem__" and isinstance(args[0], Far)
            apart = [x for x in tensors if not isinstance(x, Far) and x.dim()]
            if here and apart and not index and name not in MIXED:
                raise RuntimeError(f"two devices in {name}: {[tuple(x.shape) for x in apart]} on the CPU")
        given, named = mapped((args, kwargs), lambda x: x.as_subclass(torch.Tensor))
        out = func(*given, **named)
        return mapped(out, lambda x: self.result(x, name)) if here else out

    def result(self, tensor, name):
        """Return what an operation gave as a tensor of the device."""
        if self.device.type == "mps" and tensor.dtype is torch.float64:
            raise TypeError(f"{name}: the MPS framework doesn't support float64")
        return tensor.as_subclass(Far)

    def check_generator(self, generator, here):
        """Raise unless a generator is on the device that is drawn for."""
        if generator is not None and isinstance(generator, FarGenerator) != here:
            raise RuntimeError("the generator is on another device")

    def converted(self, name, args, kwargs):
        """Return where a conversion leads, and its arguments without the device."""
        here = name != "cpu" and isinstance(args[0], Far)
        rest = []
        for x in args[1:]:
            if isinstance(x, torch.Tensor):
                here = isinstance(x, Far)
                rest.append(x)
            elif isinstance(x, str | torch.device):
                here = torch.device(x).type == self.device.type
            else:
                rest.append(x)
        if kwargs.get("device") is not None:
            here = torch.device(kwargs["device"]).type == self.device.type
        kwargs.pop("device", None)
        return here, (args[0], *rest), kwargs
