import json
import math

import pytest
import torch
from rich.console import Console

from anyorder.errors import UserError
from anyorder.reports.tokenizer_tables import report_markdown, report_tables
from anyorder.testing.chunks import noise, recorded_like
from anyorder.tokenizers import TokenizerConfig
from anyorder.tokenizers.bins import BinsTokenizer
from anyorder.tokenizers.report import tokenizer_report
from anyorder.tokenizers.steadiness import steadiness

NAMES = ["pan", "lift", "elbow", "wrist", "roll", "gripper"]
QUICK = {"registers": {"steps": 50}}


@pytest.mark.parametrize("choice", sorted(TokenizerConfig.choices))
def test_report_of_every_tokenizer(choice):
    tokenizer = TokenizerConfig.named(choice, **QUICK.get(choice, {})).fit(recorded_like(300))
    chunks = recorded_like(200, seed=2)
    report = tokenizer_report(tokenizer, chunks, lambda x: 90 * x, NAMES, torch.arange(200) // 50, 0.01)
    error = 90 * (tokenizer.decode(tokenizer.encode(chunks)) - chunks)
    for i, e in enumerate(report.errors):
        assert e.name == NAMES[i]
        assert e.rmse == pytest.approx(error[..., i].square().mean().sqrt().item(), rel=1e-4, abs=1e-5)
        assert e.max == pytest.approx(error[..., i].abs().max().item(), rel=1e-4, abs=1e-4)
        assert 0 <= e.p99 <= e.max
    assert report.rmse == pytest.approx(error.square().mean().sqrt().item(), rel=1e-4)
    assert report.rmse_normalised == pytest.approx(report.rmse / 90, rel=1e-4)
    assert report.tokens_min <= report.tokens_mean <= report.tokens_max <= report.length
    assert report.values_per_token == pytest.approx(96 / report.tokens_mean)
    assert 0 < report.bits_unigram <= report.bits_upper
    steady = report.steadiness
    assert steady == steadiness(tokenizer, chunks, tokenizer.encode(chunks), torch.arange(200) // 50, 0.01)
    assert (steady.neighbours, steady.jitter) == (196, 0.01)
    assert 0 <= steady.overlap_rate < 1
    assert report.encode_per_s > 0
    assert report.decode_per_s > 0
    assert json.loads(json.dumps(report.to_dict()))["tokenizer"] == choice
    markdown = report_markdown(report)
    assert f"| vocabulary | {tokenizer.vocab_size} (" in markdown
    assert "| gripper | " in markdown
    assert f"| overlap rate of neighbours | {steady.overlap_rate:.3f} |" in markdown
    assert f"| jitter entropy, nats per value | {steady.jitter_entropy:.3f} |" in markdown
    assert f"| {report.worst[0].index} | " in markdown


def test_worst_chunks_are_those_with_the_largest_error():
    tokenizer = BinsTokenizer(16, 6, bins=16)
    chunks = recorded_like(200)
    # Bins have the same largest error everywhere inside the range, but beyond it whatever one likes.
    for row, column, size in ((17, 3, 1.9), (120, 5, -1.6), (4, 0, 1.3)):
        chunks[row, 5, column] = size
    worst = tokenizer_report(tokenizer, chunks, lambda x: 90 * x, NAMES).worst
    error = 90 * (tokenizer.decode(tokenizer.encode(chunks)) - chunks)
    rmse = error.square().mean((1, 2)).sqrt()
    assert [w.index for w in worst] == rmse.topk(3).indices.tolist() == [17, 120, 4]
    assert [w.dimension for w in worst] == ["wrist", "gripper", "pan"]
    for w in worst:
        assert w.rmse == pytest.approx(rmse[w.index].item(), rel=1e-5)
        assert w.max == pytest.approx(error[w.index].abs().max().item(), rel=1e-5)
        off = torch.tensor(w.decoded) - torch.tensor(w.original)
        assert off.abs().max().item() == pytest.approx(w.max, rel=1e-5)
        assert off.abs().argmax() == 5


def test_fewer_chunks_than_worst_ones():
    report = tokenizer_report(BinsTokenizer(16, 6, bins=4), recorded_like(2))
    assert len(report.worst) == 2
    assert report.steadiness is None
    assert "| overlap rate of neighbours | - |" in report_markdown(report)


@pytest.mark.parametrize("width", [40, 80])
def test_narrow_terminals_cut_nothing(width):
    names = [f"observation.left_arm.joint_[{i}].position" for i in range(6)]
    report = tokenizer_report(BinsTokenizer(16, 6, bins=16), recorded_like(20), action_names=names)
    console = Console(record=True, width=width)
    console.print(report_tables(report))
    text = console.export_text()
    assert "…" not in text
    if width == 80:
        assert all(name in text for name in names)
        assert "its largest error" in text


def test_unigram_bits_are_the_entropy():
    # Three values in the ratio 2 : 1 : 1 carry 1.5 bits each.
    chunks = torch.tensor([-0.9, -0.9, -0.1, 0.9]).view(2, 2, 1)
    report = tokenizer_report(BinsTokenizer(2, 1, bins=256), chunks)
    assert report.bits_unigram == pytest.approx(3.0)
    assert report.bits_upper == pytest.approx(2 * math.log2(256))
    assert report.tokens_used == 3


def test_cut_chunks_are_counted():
    tokenizer = TokenizerConfig.named("fast").fit(recorded_like(300))
    report = tokenizer_report(tokenizer, torch.cat([recorded_like(30), noise(20)]))
    assert report.lossy_chunks == 20
    assert report.errors[0].name == "0"


def test_bad_arguments_are_named():
    tokenizer = BinsTokenizer(16, 6, bins=4)
    with pytest.raises(UserError, match="chunks to measure: 0 given"):
        tokenizer_report(tokenizer, torch.zeros(0, 16, 6))
    with pytest.raises(UserError, match=r"action_names: .* allowed: 6 names"):
        tokenizer_report(tokenizer, recorded_like(3), action_names=["x"])
