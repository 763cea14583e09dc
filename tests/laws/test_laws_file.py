"""``laws.json``: what no fit gives is refused by name, and what was written comes back."""

import copy
import json

import pytest

from anyorder.errors import UserError
from anyorder.files import read_json
from anyorder.laws.config import FitConfig
from anyorder.laws.facts import Facts
from anyorder.laws.laws import fit_laws
from anyorder.laws.laws_file import read_laws, to_dict, write_laws
from anyorder.laws.runs import make_runs
from anyorder.reports.laws import sentences
from tests.laws.planted import AR, DIFFUSION, planted, together


@pytest.fixture(scope="module")
def laws():
    runs = together(planted(AR, 40, family="ar"), planted(DIFFUSION, 40, family="masked"))
    facts = Facts("loss_final", "final", 8.0, {"ar": 1e12, "masked": 2e12}, {"ar": True, "masked": False})
    return fit_laws(runs, FitConfig(), resamples=100, facts=facts)


def at(content, path):
    for step in path[:-1]:
        content = content[step]
    return content


def leaves(value, path=()):
    """Give the path of every value that is no object or list."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        yield path
        return
    for key, item in items:
        if isinstance(key, int) and key > 1:
            continue
        yield from leaves(item, (*path, key))


def is_read(folder):
    try:
        read_laws(folder)
    except UserError:
        return False
    return True


def test_what_was_written_comes_back_with_its_digest(laws, tmp_path):
    write_laws(laws, sentences(laws), tmp_path / "laws.json")
    assert read_json(tmp_path / "laws.json") == json.loads(json.dumps(to_dict(laws, sentences(laws))))
    assert read_laws(tmp_path).facts == laws.facts
    text = (tmp_path / "laws.json").read_text()
    (tmp_path / "laws.json").write_text(text.replace('"E": 1', '"E": 2', 1).replace('"E": 2', '"E": 3', 1))
    with pytest.raises(UserError, match="changed since it was written"):
        read_laws(tmp_path)


def test_laws_without_a_digest_as_older_versions_wrote_are_read(laws, tmp_path):
    (tmp_path / "laws.json").write_text(json.dumps(to_dict(laws, sentences(laws))))
    assert set(read_laws(tmp_path).families) == {"ar", "masked"}


def test_every_number_in_it_is_looked_at(laws, tmp_path):
    content = json.loads(json.dumps(to_dict(laws, sentences(laws))))
    for law in content["laws"].values():
        law["bootstrap"]["samples"] = {name: v[:2] for name, v in law["bootstrap"]["samples"].items()}
    content["critical"]["pairs"] = content["critical"]["pairs"][:1]
    accepted = []
    for path in leaves(content):
        for value in (float("nan"), "x", {}, -1, 1e300) if "masked" not in path else ():
            changed = copy.deepcopy(content)
            at(changed, path)[path[-1]] = value
            (tmp_path / "laws.json").write_text(json.dumps(changed))
            if is_read(tmp_path):
                accepted.append((path, value))
    # Scores may have any sign and size; names and texts may be anything.
    free = {"objective", "r2", "r2_no_decay", "loss", "text", "notes", "units", "fixed", "median"}
    free |= {"slope", "intercept", "slope_interval", "intercept_interval"}
    for path, value in accepted:
        sized = value == 1e300 and path[-1] in ("ar", "masked", "values_per_token", "flops", "unique_tokens")
        sized = sized or (value == 1e300 and {"interval", "looked_at_flops", "ranges"} & set(path))
        text = value == "x" and isinstance(at(content, path)[path[-1]], str)
        assert sized or text or free & set(path) or at(content, path)[path[-1]] == value, (path, value)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("laws", "ar", "constants", "alpha"), float("nan"), "NaN is no number"),
        (("laws", "ar", "constants", "alpha"), None, "alpha of ar"),
        (("laws", "ar", "constants", "A"), -5.0, "A of ar: -5.0 given"),
        (("laws", "ar", "constants", "beta"), 40, "beta of ar: 40.0 given"),
        (("laws", "masked", "bootstrap", "samples", "B", 3), 0, "B of masked"),
        (("laws", "masked", "ranges", "params", 0), -1, "params of masked"),
        (("runs", "flops_per_s", "ar"), 0, "flops_per_s of ar: 0.0 given"),
        (("runs", "values_per_token"), -1.0, "values_per_token: -1.0 given"),
        (("runs", "protocol"), "worst", "protocol: 'worst' given"),
        (("laws", "ar", "runs"), 0, "runs of ar: 0 given"),
        (("law",), "none", "law"),
    ],
)
def test_a_wrong_value_is_named(laws, path, value, said, tmp_path):
    content = json.loads(json.dumps(to_dict(laws, sentences(laws))))
    at(content, path)[path[-1]] = value
    (tmp_path / "laws.json").write_text(json.dumps(content))
    with pytest.raises(UserError) as error:
        read_laws(tmp_path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("column", range(4))
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -1.0, 1e308])
def test_runs_that_cannot_be_are_refused(column, value):
    columns = [[1e6, 2e6], [1e8, 1e8], [1e8, 1e8], [2.0, 3.0]]
    columns[column] = [columns[column][0], value]
    with pytest.raises(UserError, match="in row 2: "):
        make_runs(*columns)
