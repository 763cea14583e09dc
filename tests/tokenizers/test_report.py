import json
import math

import pytest
import torch
from rich.console import Console

from anyorder.errors import UserError
from anyorder.tokenizers import TokenizerConfig
from anyorder.tokenizers.bins import BinsTokenizer
from anyorder.tokenizers.report import tokenizer_report
from tests.tokenizers.chunks import noise, recorded_like

NAMES = ["pan", "lift", "elbow", "wrist", "roll", "gripper"]


@pytest.mark.parametrize("choice", sorted(TokenizerConfig.choices))
def test_report_of_every_tokenizer(choice):
    tokenizer = TokenizerConfig.from_options(choice, {}).fit(recorded_like(300))
    chunks = recorded_like(200, seed=2)
    report = tokenizer_report(tokenizer, chunks, lambda x: 90 * x, NAMES)
    error = 90 * (tokenizer.decode(tokenizer.encode(chunks)) - chunks)
    for i, e in enumerate(report.errors):
        assert e.name == NAMES[i]
        assert e.rmse == pytest.approx(error[..., i].square().mean().sqrt().item(), rel=1e-4, abs=1e-5)
        assert e.max == pytest.approx(error[..., i].abs().max().item(), rel=1e-4, abs=1e-4)
        assert 0 <= e.p99 <= e.max
    assert report.tokens_min <= report.tokens_mean <= report.tokens_max <= report.length
    assert report.values_per_token == pytest.approx(96 / report.tokens_mean)
    assert 0 < report.bits_unigram <= report.bits_upper
    assert report.encode_per_s > 0
    assert report.decode_per_s > 0
    assert json.loads(json.dumps(report.to_dict()))["tokenizer"] == choice
    markdown = report.to_markdown()
    assert f"| vocabulary | {tokenizer.vocab_size} (" in markdown
    assert "| gripper | " in markdown
    console = Console(record=True, width=140)
    console.print(report)
    assert "gripper" in console.export_text()


def test_unigram_bits_are_the_entropy():
    # Three values in the ratio 2 : 1 : 1 carry 1.5 bits each.
    chunks = torch.tensor([-0.9, -0.9, -0.1, 0.9]).view(2, 2, 1)
    report = tokenizer_report(BinsTokenizer(2, 1, bins=256), chunks)
    assert report.bits_unigram == pytest.approx(3.0)
    assert report.bits_upper == pytest.approx(2 * math.log2(256))
    assert report.tokens_used == 3


def test_cut_chunks_are_counted():
    tokenizer = TokenizerConfig.from_options("fast", {}).fit(recorded_like(300))
    report = tokenizer_report(tokenizer, torch.cat([recorded_like(30), noise(20)]))
    assert report.lossy_chunks == 20
    assert report.errors[0].name == "0"


def test_bad_arguments_are_named():
    tokenizer = BinsTokenizer(16, 6, bins=4)
    with pytest.raises(UserError, match="chunks to measure: 0 given"):
        tokenizer_report(tokenizer, torch.zeros(0, 16, 6))
    with pytest.raises(UserError, match=r"action_names: .* allowed: 6 names"):
        tokenizer_report(tokenizer, recorded_like(3), action_names=["x"])
