import io
import json

import pytest
from rich.console import Console

from anyorder.commands import report
from anyorder.errors import ConfigError
from anyorder.reports.html import write_report
from anyorder.reports.paired import compare_pairs
from anyorder.reports.runs import read_runs
from anyorder.rollouts.statistics import mcnemar_p, paired_interval
from tests.reports.fake_runs import write_run

FAMILIES = {"ar": "autoregressive", "masked": "masked_diffusion", "flat": "regression", "mip": "mip"}


def rolled(folder, name, successes, episodes=20, first=100):
    """Write a run whose rollout succeeds in the episodes ``successes``; without one where that is None."""
    family = FAMILIES[name]
    tokens = family in ("autoregressive", "masked_diffusion")
    if successes is None:
        return write_run(folder / name, family, tokens=tokens)
    run = write_run(folder / name, family, tokens=tokens, success=(len(successes), episodes))
    rewrite(run, [{"success": i in successes, "seed": first + i} for i in range(episodes)])
    return run


def rewrite(run, changes):
    """Change the lines of a run's episodes."""
    path = run / "rollout" / "episodes.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({**a, **b}) + "\n" for a, b in zip(lines, changes, strict=True)))


def pair(folder, *, baseline=None, **successes):
    runs = [rolled(folder, name, found) for name, found in successes.items()]
    found = compare_pairs(read_runs(runs), None if baseline is None else str(folder / baseline))
    assert found is not None
    return found


def test_pairs_are_counted_by_seed(tmp_path):
    found = pair(tmp_path, ar=range(5, 20), masked=range(8))
    assert found.baseline.name == "ar"
    pairs = found.pairs["masked"]
    assert (pairs.only_run, pairs.only_baseline, pairs.common) == (5, 12, 20)
    assert pairs.difference == pytest.approx((8 - 15) / 20)
    assert pairs.interval == paired_interval(5, 12, 20)
    assert pairs.p == pairs.corrected_p == mcnemar_p(5, 12)
    assert "ar (autoregressive) is not told apart from masked (masked_diffusion)" in found.finding
    assert (found.tests, found.notes) == (1, ())


def test_a_picked_baseline_is_corrected_for_all_pairs_a_given_one_for_its_own(tmp_path):
    runs = {"ar": range(20), "masked": range(8), "flat": range(14)}
    found = pair(tmp_path / "picked", **runs)
    p = {name: pairs.p for name, pairs in found.pairs.items()}
    assert p == {"masked": mcnemar_p(0, 12), "flat": mcnemar_p(0, 6)}
    assert found.tests == 3
    assert found.pairs["masked"].corrected_p == 3 * p["masked"]
    assert found.pairs["flat"].corrected_p == 2 * p["flat"]
    assert "ar (autoregressive) is ahead of masked (masked_diffusion), is not told apart from flat" in found.finding
    given = pair(tmp_path / "given", baseline="masked", **runs)
    assert (given.baseline.name, given.tests) == ("masked", 2)
    assert given.pairs["ar"].corrected_p == 2 * p["masked"]
    assert "masked (masked_diffusion) is behind ar (autoregressive)" in given.finding


def test_equal_policies_have_no_test_to_fail(tmp_path):
    pairs = pair(tmp_path, ar=range(20), masked=range(20)).pairs["masked"]
    assert (pairs.only_run, pairs.only_baseline, pairs.p) == (0, 0, 1.0)
    assert pairs.interval == paired_interval(0, 0, 20)


def test_one_episode(tmp_path):
    runs = [rolled(tmp_path, "ar", [0], 1), rolled(tmp_path, "masked", [], 1)]
    found = compare_pairs(read_runs(runs))
    assert found is not None
    assert (found.pairs["masked"].difference, found.pairs["masked"].p) == (-1.0, 1.0)


def test_an_episode_that_failed_on_nan_is_a_failure(tmp_path):
    runs = [rolled(tmp_path, "ar", range(20)), rolled(tmp_path, "masked", range(19))]
    rewrite(runs[1], [{}] * 19 + [{"reason": "observation.state is not finite"}])
    found = compare_pairs(read_runs(runs))
    assert found is not None
    assert found.pairs["masked"].only_baseline == 1


def test_only_common_seeds_are_paired(tmp_path):
    runs = [rolled(tmp_path, "ar", range(20)), rolled(tmp_path, "masked", range(3), first=115)]
    found = compare_pairs(read_runs(runs))
    assert found is not None
    pairs = found.pairs["masked"]
    assert (pairs.only_run, pairs.only_baseline, pairs.common) == (0, 2, 5)
    assert found.notes == ("masked (masked_diffusion) and ar (autoregressive) have 5 of 20 episode seeds in common.",)


def test_other_seeds_are_not_tested(tmp_path):
    runs = [rolled(tmp_path, "ar", range(9)), rolled(tmp_path, "masked", range(3), first=500)]
    found = compare_pairs(read_runs(runs))
    assert found is not None
    assert (found.runs, found.pairs, found.finding) == ((), {}, "")
    assert "met different episode seeds, so they are unpaired: no test." in found.notes[0]


def test_what_cannot_be_paired_is_said(tmp_path):
    runs = [
        rolled(tmp_path, "ar", range(9)),
        rolled(tmp_path, "masked", None),
        rolled(tmp_path, "flat", range(3)),
        rolled(tmp_path, "mip", range(4)),
    ]
    rewrite(runs[2], [{"seed": None}] * 20)
    summary = runs[3] / "rollout" / "summary.json"
    summary.write_text(json.dumps(json.loads(summary.read_text()) | {"env": {"type": "aloha"}}))
    found = compare_pairs(read_runs(runs))
    assert found is not None
    assert found.notes == (
        "masked (masked_diffusion) has no rollouts: no test.",
        "The episodes of flat (regression) are not recorded with their seeds: no test.",
        "mip and ar (autoregressive) were rolled out in different environments: no test.",
    )


def test_success_during_training_is_not_paired(tmp_path):
    run = write_run(tmp_path / "mip", "mip", tokens=False, rollout={"episodes": 50, "env": None, "seed": 1})
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 100, "success_rate": 0.9, "success_low": 0, "success_high": 1}) + "\n")
    found = compare_pairs(read_runs([run, rolled(tmp_path, "ar", range(9))]))
    assert found is not None
    assert "The episodes of mip are not recorded with their seeds: no test." in found.notes


def test_nothing_to_compare(tmp_path):
    assert compare_pairs(read_runs([rolled(tmp_path, "ar", range(9))])) is None
    assert compare_pairs(read_runs([rolled(tmp_path, "masked", None), rolled(tmp_path, "flat", None)])) is None


def test_a_baseline_without_rollouts_compares_with_nobody(tmp_path):
    found = pair(tmp_path, baseline="flat", ar=range(9), masked=range(3), flat=None)
    assert found.pairs == {}
    assert found.notes == ("flat (regression) has no rollouts: no test.",) * 2


def test_a_baseline_is_one_of_the_runs(tmp_path):
    run = rolled(tmp_path, "ar", range(9))
    with pytest.raises(ConfigError, match=r"baseline: .* given, allowed: one of the runs"):
        compare_pairs(read_runs([run]), str(tmp_path / "other"))
    with pytest.raises(ConfigError, match="baseline: 'other' given, allowed: one of runs"):
        report.ReportConfig([str(run)], str(tmp_path / "r.html"), baseline="other")


def test_a_seed_twice_is_one_line(tmp_path):
    run = rolled(tmp_path, "ar", range(9))
    rewrite(run, [{"seed": 100 + max(i, 1)} for i in range(20)])
    with pytest.raises(ConfigError, match=r"episodes.jsonl: seed: 101 given, allowed: each episode once$"):
        read_runs([run])


def test_the_table_is_the_same_everywhere(tmp_path):
    runs = [rolled(tmp_path, "ar", range(20)), rolled(tmp_path, "masked", range(8)), rolled(tmp_path, "flat", None)]
    page = write_report(runs, tmp_path / "a.html")
    difference, p = "-60.0 [-78.1, -34.2]", "0.00049"
    row = f"| masked (masked_diffusion) | {difference} | 0 | 12 | 20 | {p} |"
    markdown = page.with_suffix(".md").read_text()
    assert "## Paired comparison with ar (autoregressive)" in markdown
    assert row in markdown
    assert "- flat (regression) has no rollouts: no test." in markdown
    assert "is ahead of masked (masked_diffusion) (McNemar's exact test at the 5 % level)." in markdown
    html = page.read_text()
    for text in (f'<td class="number">{difference}</td>', "Paired comparison with ar", "has no rollouts: no test"):
        assert text in html
    console = Console(width=120, record=True, file=io.StringIO())
    settings = report.ReportConfig([str(run) for run in runs], str(tmp_path / "b.html"), baseline=str(runs[1]))
    report.run(settings, console)
    shown = console.export_text()
    for text in ("paired with masked (masked_diffusion)", "+60.0", "[+34.2, +78.1]", p, "is behind ar"):
        assert text in shown
    assert "paired" not in write_report(runs[:1], tmp_path / "c.html").with_suffix(".md").read_text()
