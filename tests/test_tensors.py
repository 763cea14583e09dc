"""A file of tensors and facts says when it was damaged."""

import random

import pytest
import torch
from safetensors.torch import load_file, save_file

from anyorder.errors import CheckpointError
from anyorder.tensors import read_tensors, write_tensors

TENSORS = {"a": torch.arange(12.0).view(3, 4).T, "step": torch.tensor(7), "half": torch.ones(2).bfloat16()}
FACTS = {"step": 3, "history": [{"nll": 0.1 + 0.2, "epoch": 1}]}


def test_what_is_written_is_read_and_the_same_content_is_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        write_tensors(tmp_path / name, TENSORS, FACTS)
    tensors, facts = read_tensors(tmp_path / "one")
    assert facts == FACTS
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[k], v) and tensors[k].dtype == v.dtype for k, v in TENSORS.items())
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_flipped_bit_or_a_cut_is_refused_or_changes_nothing(tmp_path):
    path = tmp_path / "state"
    write_tensors(path, TENSORS, FACTS)
    good = path.read_bytes()
    refusals = []
    cases = [good[:n] for n in range(0, len(good), 7)] + [good + b"\0"]
    for bit in random.Random(0).sample(range(8 * len(good)), 1500):
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << bit % 8
        cases.append(bytes(damaged))
    for damaged in cases:
        path.write_bytes(damaged)
        try:
            tensors, facts = read_tensors(path)
        except CheckpointError as error:
            refusals.append(str(error))
            continue
        assert facts == FACTS
        assert all(torch.equal(tensors[name], value) for name, value in TENSORS.items())
    assert len(refusals) > 1400
    assert not any("\n" in line for line in refusals)


def test_a_file_without_a_digest_is_accepted(tmp_path):
    write_tensors(tmp_path / "new", TENSORS)
    save_file(load_file(tmp_path / "new"), tmp_path / "old")
    tensors, facts = read_tensors(tmp_path / "old")
    assert facts == {}
    assert torch.equal(tensors["a"], TENSORS["a"])
    with pytest.raises(FileNotFoundError):
        read_tensors(tmp_path / "none")
