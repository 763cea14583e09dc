"""Advice: closed forms, brute force, shares of resamples, ranges; the command and its bad words."""

import json
import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from anyorder import cli
from anyorder.errors import UserError
from anyorder.laws.advise import advise, cheapest
from anyorder.laws.facts import Facts, facts_of
from anyorder.laws.law import CONSTANTS, constants_array, predict
from anyorder.laws.laws import FamilyLaw, Laws
from anyorder.laws.laws_file import read_laws
from anyorder.laws.runs import runs_of
from anyorder.reports.advice import bound, headline, lines, table, warning
from tests.commands.test_cli import fails
from tests.laws.planted import AR, DIFFUSION, planted, together

RANGES = {
    "params": (7e6, 2.5e9),
    "tokens": (25e6, 80e9),
    "unique_tokens": (25e6, 100e6),
    "epochs": (1.0, 800.0),
    "flops": (1e15, 1e21),
}


def known(constants, samples=None, **ranges):
    return FamilyLaw(constants, constants[None].repeat(10, 0) if samples is None else samples, {**RANGES, **ranges})


def laws(facts=None, **families):
    return Laws(families, facts or Facts())


def test_without_decay_the_answer_has_a_closed_form():
    c = constants_array({"A": 400, "B": 1500, "E": 1.7, "alpha": 0.34, "beta": 0.36})
    flops = 1e19
    g = (0.34 * 400 / (0.36 * 1500)) ** (1 / 0.7)
    n = g * (flops / 6) ** (0.36 / 0.7)
    found = advise(laws(plain=known(c)), 5e7, flops).best
    assert found.params == pytest.approx(n, rel=1e-4)
    assert found.epochs == pytest.approx(flops / 6 / n / 5e7, rel=1e-4)
    assert found.nll == pytest.approx(1.7 + 400 * n**-0.34 + 1500 * (flops / 6 / n) ** -0.36, rel=1e-9)
    assert found.interval == pytest.approx((found.nll, found.nll))


@pytest.mark.parametrize(("flops", "best"), [(1e18, "ar"), (1e20, "masked")])
def test_planted_families_by_brute_force(flops, best):
    found = advise(laws(ar=known(AR), masked=known(DIFFUSION)), 5e7, flops)
    n = np.geomspace(1e5, 1e12, 20_001)
    for outlook, c in zip(found.families, (AR, DIFFUSION) if best == "ar" else (DIFFUSION, AR), strict=True):
        loss = predict(c, n, flops / 6 / n, 5e7)
        assert outlook.nll == pytest.approx(float(loss.min()), rel=1e-7)
        assert outlook.params == pytest.approx(float(n[loss.argmin()]), rel=0.02)
        assert 6 * outlook.params * outlook.tokens == pytest.approx(flops)
    assert found.best.family == best
    assert found.best.probability == 1
    assert headline(found).startswith(f"Train {best}")
    crossing = found.crossings["ar", "masked"]
    assert 1e18 < crossing.flops < 1e20
    assert crossing.better_above == "masked"


def test_the_probability_is_the_share_of_resamples():
    shifted = AR[None].repeat(10, 0)
    shifted[:, 2] += [0.1] * 3 + [-0.1] * 7
    third = AR.copy()
    third[2] += 5
    found = advise(laws(fixed=known(AR), moving=known(AR, shifted), third=known(third)), 5e7, 1e19)
    assert {o.family: o.probability for o in found.families} == {"fixed": 0.3, "moving": 0.7, "third": 0.0}
    assert len(found.crossings) == 3
    assert "do not decide" in headline(found)
    moving = next(o for o in found.families if o.family == "moving")
    assert moving.interval == pytest.approx((moving.nll - 0.1, moving.nll + 0.1))


def moved(constants, nats, of=0):
    """A law whose loss is higher everywhere, and ten resamples: in so many of them it is lower instead."""
    there = constants.copy()
    there[2] += nats
    samples = there[None].repeat(10, 0)
    samples[:of, 2] -= 2 * nats
    return there, samples


def check_one_judgement(advice):
    """The sentence and the table say the same."""
    (first, *others), said = table(advice).rows, headline(advice)
    nats = {row[0]: row[1] for row in table(advice).rows}
    if said.startswith("A tie"):
        assert f"Take {first[0]}, " in said
        assert all(nats[name] in said and name in said for name in advice.tied)
    else:
        assert f" {first[0]}: " in said
        assert advice.tied == (first[0],)
        assert all(float(first[1]) < float(row[1]) for row in others)
    assert f"{advice.best.probability:.0%}" in said


@pytest.mark.parametrize(
    ("nats", "of", "begins"),
    [
        (0.0, 0, "A tie: ar and other differ by less than 4 digits tell"),
        (1e-6, 0, "A tie: ar and other differ by less than 4 digits tell"),
        (1e-6, 7, "A tie: the runs do not decide between "),
        (0.01, 5, "A tie: the runs do not decide between "),
        (0.01, 2, "Probably ar: "),
        (0.01, 0, "Train ar: "),
    ],
)
def test_what_nearly_ties_is_said_as_a_tie(nats, of, begins):
    other = known(*moved(AR, nats, of))
    for families in ({"ar": known(AR), "other": other}, {"other": other, "ar": known(AR)}):
        found = advise(laws(**families), 5e7, 1e19)
        assert headline(found).startswith(begins.replace("ar and other", " and ".join(found.tied)))
        check_one_judgement(found)


def test_families_that_are_the_same_are_the_lowest_alike():
    found = advise(laws(one=known(AR), two=known(AR)), 5e7, 1e19)
    assert [o.probability for o in found.families] == [1.0, 1.0]
    assert "Take one, or another of them, as none is cheaper: " in headline(found)


def test_a_tie_is_decided_by_what_is_cheaper():
    """The same law held to fewer parameters has a higher loss, here within the resamples; it goes first."""
    samples = AR[None].repeat(10, 0)
    samples[:5, 2] -= 0.1
    small = known(AR, samples, params=(7e6, advise(laws(ar=known(AR)), 5e7, 1e19).best.params / 1.5))
    third = known(*moved(AR, 1.0))
    found = advise(laws(ar=known(AR), small=small, third=third), 5e7, 1e19)
    assert [o.family for o in found.families] == ["small", "ar", "third"]
    assert found.families[0].nll > found.families[1].nll
    assert found.tied == ("small", "ar")
    assert "Take small, as it has the fewest parameters: " in headline(found)
    check_one_judgement(found)
    half = advise(laws(ar=known(AR), masked=known(AR)), 5e7, {"ar": 1e19, "masked": 1e19})
    early = replace(half.families[1], flops=5e18)
    assert cheapest([half.families[0], early]) == (early, "it needs the least compute")


def test_each_family_may_have_its_own_compute():
    both = laws(slow=known(AR), fast=known(AR))
    found = advise(both, 5e7, {"slow": 1e18, "fast": 1e19})
    assert found.best.family == "fast"
    assert [o.offered_flops for o in found.families] == [1e19, 1e18]


def test_outside_the_runs_it_warns_and_far_outside_it_refuses():
    one = laws(ar=known(AR))
    assert warning(advise(one, 5e7, 1e19).best) == ""
    near = advise(one, 5e6, 1e19).best
    assert near.outside["unique_tokens"] == pytest.approx(5)
    assert "5e+06 unique tokens (5x outside 2.5e+07 to 1e+08)" in warning(near)
    with pytest.raises(UserError, match=r"unique_tokens of ar: 500000.0 given.*extrapolate=true"):
        advise(one, 5e5, 1e18)
    far = advise(one, 5e5, 1e18, extrapolate=True)
    assert "50x outside" in "\n".join(lines(far))


def test_what_is_answered_counts_as_well_as_what_is_asked():
    with pytest.raises(UserError, match="epochs of ar"):
        advise(laws(ar=known(AR, params=(1e4, 1e5))), 5e7, 1e19)


def test_sizes_and_epochs_stay_within_the_runs():
    flops, n = 1e19, np.geomspace(1e5, 1e12, 100_001)
    free = advise(laws(ar=known(AR)), 5e7, flops).best
    assert bound(free) == ""
    for name, factor, low, high in (
        ("params", 3, 3 * free.params, 30 * free.params),
        ("params", 1 / 3, free.params / 30, free.params / 3),
        ("epochs", 1 / 4, free.epochs / 40, free.epochs / 4),
        ("tokens", 2, 2 * free.tokens, 20 * free.tokens),
    ):
        held = advise(laws(ar=known(AR, **{name: (low, high)})), 5e7, flops).best
        assert getattr(held, name) == pytest.approx(factor * getattr(free, name), rel=1e-4)
        d = flops / 6 / n
        inside = {"params": n, "tokens": d, "epochs": d / 5e7}[name]
        loss = predict(AR, n, d, 5e7)[(inside >= low) & (inside <= high)]
        assert held.nll == pytest.approx(float(loss.min()), rel=1e-5)
        assert held.interval == pytest.approx((held.nll, held.nll))
        assert 6 * held.params * held.tokens == pytest.approx(flops)
        assert held.outside == {}
        assert f"would take {free.params:.2g} parameters" in bound(held)
        same = advise(laws(ar=known(AR, **{name: (low, high)})), 5e7, flops, extrapolate=True).best
        assert same.params == pytest.approx(free.params, rel=1e-4)


@pytest.mark.parametrize("share", [0.5, 0.72, 0.95])
def test_what_lies_within_is_found_near_a_bound(share):
    free = advise(laws(ar=known(AR)), 5e7, 1e19).best
    for ends in ((share * free.params, 1e3 * free.params), (1e-3 * free.params, free.params / share)):
        held = advise(laws(ar=known(AR, params=ends)), 5e7, 1e19).best
        assert held.params == pytest.approx(free.params, rel=1e-4)
        assert held.nll == pytest.approx(free.nll, rel=1e-9)
        assert bound(held) == ""


def test_bounds_far_from_the_closed_form_are_searched():
    odd = AR.copy()
    odd[0], odd[7:] = 1e-12, (1e-3, 0.35, 0.92)
    found = advise(laws(ar=known(odd)), 5e7, 1e19).best
    n = np.geomspace(*RANGES["params"], 20_001)
    d = 1e19 / 6 / n
    inside = (d >= 25e6) & (d <= 5e7 * 800)
    assert found.nll <= predict(odd, n, d, 5e7)[inside].min() * (1 + 1e-9)


def test_nobody_is_told_to_overfit():
    early = AR.copy()
    early[7:] = 0.02, 0.6, 0.5
    found = advise(laws(ar=known(early)), 25e6, 1e20).best
    flops = np.geomspace(1e14, 1e20, 601)
    n = np.geomspace(1e5, 1e12, 2001)[:, None]
    loss = predict(early, n, flops / 6 / n, 25e6)
    assert found.nll == pytest.approx(float(loss.min()), rel=1e-3)
    assert found.flops < 1e19
    assert found.offered_flops == 1e20
    assert any("would overfit" in line for line in lines(advise(laws(ar=known(early)), 25e6, 1e20)))


@pytest.mark.parametrize(
    ("protocol", "said"), [("final", "end of a run"), ("best", "keep the best checkpoint"), (None, "does not say")]
)
def test_the_protocol_is_said(protocol, said):
    found = advise(laws(Facts(protocol=protocol), ar=known(AR)), 5e7, 1e19)
    assert said in lines(found)[-1]


def test_bounds_are_said():
    facts = Facts(exact={"ar": True, "masked": False})
    found = advise(laws(facts, ar=known(AR), masked=known(DIFFUSION)), 5e7, 1e19)
    assert "The loss of masked is an upper bound; true ones may be lower." in lines(found)


def study_table(rows=40):
    runs = together(planted(AR, rows, family="autoregressive"), planted(DIFFUSION, rows, family="masked", seed=1))
    return {
        "params": runs.params,
        "tokens": runs.tokens,
        "unique_tokens": runs.unique_tokens,
        "loss_final": runs.loss * 1.01,
        "loss_best": runs.loss,
        "factorization": runs.factorization.tolist(),
        "values_per_token": np.full(2 * rows, 2.0),
        "wall_s": runs.flops / np.repeat([1e15, 5e14], rows),
        "exact": [True] * rows + [False] * rows,
    }


def test_facts_of_a_study():
    table = pa.table(study_table())
    runs, others = runs_of(table, "loss_best")
    assert set(others) == {"loss_final", "values_per_token", "wall_s", "exact"}
    facts = facts_of(table, runs, "loss_best")
    assert (facts.loss, facts.protocol, facts.values_per_token) == ("loss_best", "best", 2.0)
    assert facts.flops_per_s == pytest.approx({"autoregressive": 1e15, "masked": 5e14})
    assert facts.exact == {"autoregressive": True, "masked": False}
    with pytest.raises(
        UserError, match="loss: 'loss' given, allowed: a column of the table: loss=loss_final or loss=loss_best"
    ):
        runs_of(table)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A study's table, fitted by the command."""
    folder = tmp_path_factory.mktemp("study")
    parquet.write_table(pa.table(study_table()), folder / "runs.parquet")
    words = [f"runs={folder / 'runs.parquet'}", "loss=loss_best", "bootstrap=100", f"out={folder / 'out'}"]
    assert cli.main(["fit", *words]) == 0
    return folder / "out"


@pytest.fixture
def dataset(tmp_path):
    """The head of a LeRobot dataset: 60 M action values, 54 M of them to learn from, 27 M tokens of two values."""
    info = {
        "codebase_version": "v3.0",
        "fps": 50,
        "features": {"action": {"dtype": "float32", "shape": [6]}},
        "total_episodes": 1000,
        "total_frames": 10_000_000,
    }
    (tmp_path / "data" / "meta").mkdir(parents=True)
    (tmp_path / "data" / "meta" / "info.json").write_text(json.dumps(info))
    return tmp_path / "data"


def test_the_command_counts_the_dataset(fitted, dataset, tmp_path, capsys):
    out = tmp_path / "advice.json"
    words = [f"dataset={dataset}", f"laws={fitted}", "minutes=200", f"out={out}"]
    assert cli.main(["advise", *words]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "U = 27,000,000 unique tokens: 1000 demonstrations" in said
    written = json.loads(out.read_text())
    assert written["unique_tokens"] == 27e6
    assert written["protocol"] == "best"
    assert {f["family"]: f["offered_flops"] for f in written["families"]} == pytest.approx(
        {"autoregressive": 200 * 60 * 1e15, "masked": 200 * 60 * 5e14}
    )
    exact, drawn = read_laws(fitted).families["masked"], read_laws(fitted / "laws.json").families["masked"]
    assert exact.constants[: len(CONSTANTS)].tolist() == drawn.constants.tolist()
    truth = predict(DIFFUSION, 1e8, 1e10, 27e6)
    assert float(predict(exact.constants, 1e8, 1e10, 27e6)) == pytest.approx(float(truth), rel=0.02)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["unique_tokens=5e7"], "flops: None given, allowed: a number, or minutes"),
        (["flops=1e19"], "a dataset folder, or unique_tokens"),
        (["unique_tokens=5e7", "dataset=x", "flops=1e19"], "'dataset and unique_tokens' given"),
        (["unique_tokens=-5", "flops=1e19"], "unique_tokens: -5.0 given"),
        (["unique_tokens=5e7", "flops=0"], "flops: 0.0 given, allowed: a number > 0"),
        (["dataset=/no/such", "flops=1e19"], "dataset: '/no/such' given, allowed: the folder"),
        (["unique_tokens=5e7", "flops=1e19", "validation_fraction=1"], "a number in [0, 1)"),
        (["unique_tokens=5e7", "flops=1e19", "out=README.md"], "a new file"),
        (["unique_tokens=5e7", "flops=1e19", "laws=README.md"], "a JSON file that can be read"),
        (["unique_tokens=5e4", "flops=1e19"], "extrapolate=true"),
    ],
)
def test_bad_words(words, said, fitted, capsys):
    source = [] if any(word.startswith("laws=") for word in words) else [f"laws={fitted}"]
    assert said in fails(capsys, "advise", *source, *words)


@pytest.mark.parametrize("name", ["minutes", "flops"])
def test_compute_far_outside_is_told_as_it_was_asked(name, fitted, capsys):
    words = ["advise", f"laws={fitted}", "unique_tokens=5e7"]
    for given in ("1e30", "1e-9"):
        line = fails(capsys, *words, f"{name}={given}")
        asked = re.escape(f"{name}: {float(given)} given")
        found = re.search(rf"{asked}, allowed: (\S+) to (\S+): at most 10x outside the .* FLOPs", line)
        for end in found.groups():
            assert cli.main([*words, f"{name}={end}"]) == 0
        capsys.readouterr()
        assert cli.main([*words, f"{name}={float(found[2]) * 1.2}"]) == 2
        assert f"{name}: " in capsys.readouterr().err


def test_what_laws_do_not_say_must_be_given(tmp_path, dataset, fitted, capsys):
    written = json.loads((fitted / "laws.json").read_text())
    written["runs"] |= {"values_per_token": None, "flops_per_s": {}}
    del written["sha256"]
    file = tmp_path / "laws.json"
    file.write_text(json.dumps(written))
    assert "values_per_token" in fails(capsys, "advise", f"laws={file}", f"dataset={dataset}", "flops=1e19")
    said = fails(capsys, "advise", f"laws={file}", "unique_tokens=5e7", "minutes=9")
    assert "flops_per_s: None given" in said
