"""Sweeps go from coarse to fine, and the curve says what the report says."""

from itertools import pairwise

import pytest
import torch
from rich.console import Console

from anyorder.reports.tokenizer_tables import curve_markdown, curve_table
from anyorder.testing.chunks import smooth
from anyorder.tokenizers import TokenizerConfig
from anyorder.tokenizers.rate_distortion import RateDistortion, all_sweeps, rate_distortion
from anyorder.tokenizers.report import tokenizer_report

QUICK = {"registers": {"steps": 30, "width": 16}}
"""Settings that fit fast; the defaults elsewhere."""
LEARNT = ("registers", "residual_vq", "multiscale_vq")


def config_of(choice, **options):
    return TokenizerConfig.named(choice, **{**QUICK.get(choice, {}), **options})


@pytest.mark.parametrize("choice", sorted(TokenizerConfig.choices))
def test_every_sweep_goes_from_few_bits_to_many(choice):
    config = config_of(choice)
    sweep = config.sweep()
    assert config in sweep
    assert len(sweep) >= 4
    dial = [getattr(other, config.dial) for other in sweep]
    assert dial == sorted(set(dial))
    rest = [{k: v for k, v in other.options().items() if k != config.dial} for other in sweep]
    assert all(options == rest[0] for options in rest)
    assert all(TokenizerConfig.named(choice, **other.options()) == other for other in sweep)
    curve = rate_distortion(sweep, smooth(300), smooth(150, seed=1))
    assert curve.skipped == ()
    assert [p.settings for p in curve.points] == [other.options() for other in sweep]
    assert all(fine.bits_unigram > coarse.bits_unigram for coarse, fine in pairwise(curve.points))
    if choice not in LEARNT:  # these promise nothing about chunks they have not seen
        assert all(fine.rmse_normalised < coarse.rmse_normalised for coarse, fine in pairwise(curve.points))


def test_points_say_what_the_report_says():
    config, fit_to, held_out = config_of("fast"), smooth(300), smooth(100, seed=1)
    episodes = torch.zeros(100)
    (point,) = rate_distortion([config], fit_to, held_out, lambda x: 90 * x, episodes=episodes, jitter=0.01).points
    report = tokenizer_report(config.fit(fit_to), held_out, lambda x: 90 * x, episodes=episodes, jitter=0.01)
    assert point.steadiness == report.steadiness is not None
    assert (point.tokenizer, point.label, point.settings) == ("fast", "scale=22", config.options())
    assert (point.tokens_mean, point.bits_unigram) == (report.tokens_mean, report.bits_unigram)
    error = config.fit(fit_to).decode(config.fit(fit_to).encode(held_out)) - held_out
    assert point.rmse_normalised == pytest.approx(error.square().mean().sqrt().item(), rel=1e-5)
    assert point.rmse == pytest.approx(90 * point.rmse_normalised, rel=1e-5)
    assert point.is_of(config)
    assert not point.is_of(config_of("fast", scale=10.0))


def test_settings_the_data_refuses_are_named():
    settings = [config_of("fast", vocab_size=4), config_of("bins")]
    seen = []
    curve = rate_distortion(settings, smooth(50), smooth(20), progress=lambda *counts: seen.append(counts))
    assert [p.tokenizer for p in curve.points] == ["bins"]
    assert curve.skipped[0].startswith("fast scale=22: vocab_size: 4 given")
    assert seen == [(0, 2), (1, 2), (2, 2)]
    console = Console(record=True, width=80)
    console.print(curve_table(curve))
    for text in (console.export_text(), curve_markdown(curve)):
        assert "left out: fast scale=22" in text
        assert "bins=256" in text


def test_settings_that_change_nothing_are_named():
    sweep = config_of("bspline").sweep()
    curve = rate_distortion(sweep, smooth(50, horizon=6), smooth(20, horizon=6))
    assert [p.label for p in curve.points] == [f"points={n}" for n in (2, 3, 4, 5, 6)]
    assert curve.skipped[0] == "bspline points=8: no other codes here than points=6"
    assert len(curve.skipped) == 3


def test_all_sweeps_have_every_tokenizer_and_the_chosen_settings():
    chosen = config_of("fast", scale=13.0, max_merges=4)
    settings = all_sweeps(chosen)
    assert {config.choice for config in settings} == set(TokenizerConfig.choices)
    assert settings.count(chosen) == 1
    assert all(config.max_merges == 4 for config in settings if config.choice == "fast")


def test_an_empty_curve_prints():
    assert curve_markdown(RateDistortion((), ())).startswith("| tokenizer |")
