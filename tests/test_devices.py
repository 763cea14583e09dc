"""Devices by name: those of this machine are taken, others are one line, a policy's own may be another machine's."""

import pytest
import torch

from anyorder.devices import check_device, device_here, devices
from anyorder.errors import ConfigError

WRONG = ["foo", "meta", "cpu:0", "cuda:", "CUDA", ""]


@pytest.fixture(params=[0, 2])
def gpus(request, monkeypatch):
    """Let the machine have so many of CUDA's devices and no other accelerator."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: request.param)
    for other in (torch.backends.mps, torch.xpu):
        monkeypatch.setattr(other, "is_available", lambda: False)
    return request.param


def test_the_best_device_comes_first(gpus):
    assert devices() == (["cuda", "cuda:0", "cuda:1", "cpu"] if gpus else ["cpu"])
    assert device_here(None) == devices()[0]


def test_a_user_names_a_device_of_this_machine(gpus):
    for name in (None, *devices()):
        check_device(name)
    for name in (*WRONG, "mps", "cuda:2", *([] if gpus else ["cuda", "cuda:0"])):
        with pytest.raises(ConfigError) as error:
            check_device(name)
        said = f"device: {name!r} given, allowed: {', '.join(devices())} (what this machine has)"
        assert str(error.value) == said


def test_a_policys_device_may_be_another_machines(gpus, caplog):
    assert [device_here(name) for name in devices()] == devices()
    assert not caplog.records
    for name in ("mps", "cuda:2"):
        assert device_here(name) == devices()[0]
        assert caplog.messages.pop() == f"device {name!r} is not on this machine: {devices()[0]!r} is taken"
        caplog.clear()
    for name in WRONG:
        with pytest.raises(ConfigError, match="device: "):
            device_here(name)
