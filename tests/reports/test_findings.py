import pytest

from anyorder.reports.findings import cautions, headline, likelihood_line
from anyorder.reports.runs import read_runs
from anyorder.reports.settings_diff import compare_settings
from tests.reports.fake_runs import SETTINGS, write_run

AR, MASKED, REGRESSION = "autoregressive", "masked_diffusion", "regression"


def make(tmp_path, *runs):
    return read_runs(
        write_run(tmp_path / family, family, tokens=family != REGRESSION, success=success) for family, success in runs
    )


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        (
            [(AR, (90, 100)), (MASKED, (40, 100)), (REGRESSION, (50, 100))],
            "autoregressive succeeds most often, in 90 of 100 episodes (90 %, 95 % interval 83 to 94 %); "
            "its 95 % interval lies entirely above those of all 2 others.",
        ),
        ([(AR, (90, 100)), (MASKED, (40, 100))], "lies entirely above the interval of masked_diffusion."),
        (
            [(AR, (9, 20)), (MASKED, (8, 20)), (REGRESSION, (0, 20))],
            "No winner: autoregressive has the highest observed success rate, 9 of 20 episodes (45 %, 95 % "
            "interval 26 to 66 %), but its interval overlaps that of masked_diffusion; only regression lies "
            "clearly below.",
        ),
        ([(AR, (9, 20)), (MASKED, (8, 20))], "overlaps that of masked_diffusion."),
        ([(AR, (9, 20)), (MASKED, (9, 20))], "all 2 runs have the same success rate, 45 %"),
        ([(AR, (9, 20)), (MASKED, (9, 20)), (REGRESSION, (0, 20))], "share the highest success rate, 45 %"),
        ([(AR, (9, 20)), (MASKED, None)], "autoregressive succeeded in 9 of 20 episodes"),
        ([(AR, None), (MASKED, None)], "No rollouts yet"),
    ],
)
def test_headline(tmp_path, runs, said):
    assert said in headline(make(tmp_path, *runs))


@pytest.mark.parametrize("successes", range(0, 21, 4))
def test_never_a_winner_when_intervals_overlap(tmp_path, successes):
    runs = make(tmp_path, (AR, (14, 20)), (MASKED, (successes, 20)))
    first, second = runs[0].rollouts, runs[1].rollouts
    assert first is not None
    assert second is not None
    assert headline(runs).startswith("No winner") == first.overlaps(second)


def test_many_runs_are_counted_not_named(tmp_path):
    runs = read_runs(write_run(tmp_path / f"{AR}{i}", success=(12 - i, 20)) for i in range(6))
    assert "overlaps those of 5 runs." in headline(runs)


def test_other_environments_are_not_compared(tmp_path):
    runs = make(tmp_path, (AR, (9, 20)), (MASKED, (1, 20)))
    assert runs[1].rollouts is not None
    runs[1].rollouts.settings["env"] = {"type": "aloha"}
    assert headline(runs).startswith("No comparison")
    assert any("different rollouts" in note for note in cautions(runs))


def test_likelihood_names_bounds(tmp_path):
    said = likelihood_line(make(tmp_path, (AR, None), (MASKED, None)))
    assert "autoregressive with 0.525 ± 0.025 nats per action value (exact;" in said
    assert "Of masked_diffusion only an upper bound is known" in said


def test_likelihoods_of_other_tokens_are_not_compared(tmp_path):
    a = write_run(tmp_path / "a")
    b = write_run(tmp_path / "b", MASKED, tokenizer={"type": "bins", "bins": 256})
    runs = read_runs([a, b])
    assert likelihood_line(runs) == ""
    assert any("different tokenizers" in note for note in cautions(runs))


def test_cautions_name_unfinished_runs(tmp_path):
    (run,) = read_runs([write_run(tmp_path / "autoregressive", steps=400)])
    assert "autoregressive has taken 100 of 400 steps." in cautions([run])


@pytest.mark.parametrize(
    ("network", "dataset", "said"),
    [
        ({"width": 32, "depth": 3}, {}, "sizes of network"),
        ({"width": 64, "depth": 3, "dropout": 0.1}, {}, "regularisation (dropout, noise, weight decay)"),
        ({"width": 64, "depth": 3, "attention_dropout": 0.1}, {}, "regularisation (dropout, noise, weight decay)"),
        ({"width": 64, "depth": 3}, {"cache_gb": 2.0, "workers": 3}, None),
        ({"width": 64, "depth": 3}, {"seed": 1}, "datasets or splits"),
    ],
)
def test_cautions_say_what_differs_and_nothing_else(tmp_path, network, dataset, said):
    a = write_run(tmp_path / "a")
    b = write_run(tmp_path / "b", network=network, dataset={**SETTINGS["dataset"], **dataset})
    found = [note for note in cautions(read_runs([a, b])) if note.startswith("The runs have different")]
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


def test_settings_that_differ_and_settings_in_common(tmp_path):
    a = write_run(tmp_path / "a", batch_size=32)
    b = write_run(tmp_path / "b", REGRESSION, tokens=False)
    diff = compare_settings(read_runs([a, b]))
    assert dict(diff.differing) == {"factorization.type": [AR, REGRESSION], "batch_size": ["32", "64"]}
    common = dict(diff.common)
    assert common["network.width"] == "64"
    assert common["tokenizer.type"] == "fast"  # regression has no use for it, so it makes no difference
    assert "output_dir" not in common
