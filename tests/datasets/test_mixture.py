import dataclasses
import math

import pytest
import torch

from anyorder.cli import compose
from anyorder.datasets import ActionChunks, compute_statistics, mix
from anyorder.datasets.read.remarks import unit_remarks
from anyorder.errors import ConfigError, DatasetError
from anyorder.settings import from_plain, to_plain
from anyorder.training.config import DatasetConfig, MixEntry
from anyorder.training.data import load_chunks
from anyorder.training.order import MixtureOrder, batch_order
from tests.datasets.datasets_at_random import CAMERAS, write_random

FILM, PICTURE = CAMERAS


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixture")
    write_random(folder / "a", 1, tasks=("Walk.", "Run."), lengths=[5, 4, 6, 7])
    write_random(folder / "b", 2, tasks=("Jump.", "Run."), lengths=[8, 9], fps=22)
    write_random(folder / "blind", 3, lengths=[5, 5], cameras={PICTURE: "image"})
    write_random(folder / "wide", 4, lengths=[5, 5], cameras={PICTURE: "image"}, size=(24, 64))
    write_random(folder / "long", 5, lengths=[5, 5], cameras={}, state=4)
    write_random(folder / "fast", 6, lengths=[5, 5], cameras={}, fps=25)
    return folder


def load(roots, *names, **options):
    return [ActionChunks.load(roots / name, horizon=3, images=True, **options) for name in names]


@pytest.mark.parametrize("cache_gb", [None, 0])
def test_rows_keep_their_datasets_values(roots, cache_gb):
    parts = load(roots, "a", "b", history=2)
    mixed = mix(parts, [1, 3])
    assert mixed.cache(cache_gb) == (cache_gb is None)
    assert set(mixed.tasks) == {"Walk.", "Run.", "Jump."}
    assert mixed.frames == sum(part.frames for part in parts)
    assert mixed.lengths.tolist() == [5, 4, 6, 7, 8, 9]
    start = 0
    for number, part in enumerate(parts):
        alone = part.batch(torch.arange(part.frames))
        batch = mixed.batch(torch.arange(start, start + part.frames))
        assert batch["task"] == alone["task"]
        assert set(batch["dataset_index"].tolist()) == {number}
        for key in set(alone) - {"task", "task_index", "index", "episode_index"}:
            assert torch.equal(batch[key], alone[key]), key
        start += part.frames
    # Taken in another order, and from a subset, rows still find their frames.
    rows = torch.randperm(mixed.frames, generator=torch.Generator().manual_seed(0))
    expected = mixed.batch(torch.arange(mixed.frames))
    assert torch.equal(mixed.batch(rows)[FILM], expected[FILM][rows])
    part = mixed.subset([1, 4])
    rows = [*range(5, 9), *range(22, 30)]
    assert torch.equal(part.batch(range(part.frames))[FILM], expected[FILM][rows])
    assert f"{FILM}_is_missing" not in expected


def test_statistics_are_the_unions(roots):
    parts = load(roots, "a", "b")
    mixed = compute_statistics(mix(parts, [1, 3]))["observation.state"]
    values = torch.cat([part.columns["observation.state"] for part in parts]).double()
    assert torch.allclose(torch.from_numpy(mixed.mean), values.mean(0))
    assert mixed.count == len(values)


def test_a_missing_camera_is_said_to_be(roots):
    parts = load(roots, "a", "blind")
    with pytest.raises(DatasetError, match=r"cameras of .*blind: .*dataset.missing_cameras=true"):
        mix(parts, [1, 1])
    for cache_gb in (None, 0):
        mixed = mix(parts, [1, 1], missing_cameras=True)
        mixed.cache(cache_gb)
        batch = mixed.batch(torch.arange(mixed.frames), raw=True)
        missing = batch[f"{FILM}_is_missing"]
        assert missing.dtype == torch.bool
        assert torch.equal(missing, batch["dataset_index"] == 1)
        assert not batch[FILM][missing].any()
        assert batch[FILM][~missing].flatten(1).any(1).all()
        assert torch.equal(batch[PICTURE][missing], parts[1].batch(range(parts[1].frames), raw=True)[PICTURE])
        assert f"{PICTURE}_is_missing" not in batch


def test_samples_follow_the_weights_and_are_a_function_of_seed_and_step(roots):
    chunks = mix(load(roots, "a", "b"), [1, 3])
    order = batch_order(chunks, 500, seed=1)
    assert isinstance(order, MixtureOrder)
    rows = torch.cat([order.rows(step) for step in range(20)])
    share = float((chunks.columns["dataset_index"][rows] == 1).double().mean())
    assert share == pytest.approx(0.75, abs=4 * (0.75 * 0.25 / len(rows)) ** 0.5)
    counts = torch.bincount(rows, minlength=chunks.frames).double()
    expected = torch.where(chunks.columns["dataset_index"] == 1, 0.75 / 17, 0.25 / 22) * len(rows)
    assert float(((counts - expected) ** 2 / expected).sum()) < 80  # chi-squared, 38 degrees: p = 1e-4 at 80
    assert torch.equal(batch_order(chunks, 500, seed=1).rows(7), order.rows(7))
    assert not torch.equal(order.rows(7), order.rows(8))
    assert not torch.equal(batch_order(chunks, 500, seed=2).rows(7), order.rows(7))


def test_settings_from_the_command_line(roots):
    given = f"dataset.mix=[{{root: {roots / 'a'}, weight: 1}}, {{root: {roots / 'b'}, weight: 3, episodes: 2}}]"
    plain = compose("train", [given, f"dataset.observations=[observation.state,{PICTURE}]"])["dataset"]
    config = from_plain(DatasetConfig, plain, "dataset")
    assert config.mix == [MixEntry(str(roots / "a")), MixEntry(str(roots / "b"), weight=3.0, episodes=2)]
    assert from_plain(DatasetConfig, to_plain(config)) == config
    train, held_out = load_chunks(config, 3)
    # From each dataset its own validation episodes: one of four, one of two.
    assert (train.episodes, held_out.episodes) == (4, 2)
    for chunks in (train, held_out):
        assert chunks.columns["dataset_index"].unique().tolist() == [0, 1]
        batch = chunks.batch([0, chunks.frames - 1])
        assert PICTURE in batch
        assert FILM not in batch
        assert "observation.grip" not in batch
    assert not set(train.episode_ids) & set(held_out.episode_ids)


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (("a", "long"), {}, r"observation.state of .*long: \(\(4,\), 'float32'\) given, allowed: \(\(3,\)"),
        (("a", "fast"), {}, r"fps of .*fast: 25 given, allowed: at most 20% above 20"),
        (("blind", "wide"), {"observations": [PICTURE]}, "frame size of .*dataset.image_size makes them equal"),
        (("a", "long"), {"observations": [FILM]}, "cameras of .*long"),
        (("a", "b"), {"root": "x"}, "^root: 'x' given, allowed: null beside dataset.mix"),
        (("a", "b"), {"episodes": 3}, "^episodes: 3 given"),
        (("a", "b"), {"observations": ["observation.stat"]}, "did you mean 'observation.state'"),
    ],
)
def test_what_does_not_fit_together(roots, names, options, message):
    with pytest.raises((ConfigError, DatasetError), match=message) as caught:
        load_chunks(DatasetConfig(mix=[MixEntry(str(roots / name)) for name in names], **options), 3)
    assert "\n" not in str(caught.value)


def test_image_size_makes_cameras_fit(roots):
    mixed = [MixEntry(str(roots / name)) for name in ("blind", "wide")]
    train, _ = load_chunks(DatasetConfig(mix=mixed, observations=[PICTURE], image_size=[24, 32]), 3)
    assert train.shapes[PICTURE] == (3, 24, 32)


def test_entries_are_checked():
    for entry in ({"weight": 1}, {"root": "a", "weight": 0}, {"root": "a", "weigth": 1}):
        with pytest.raises(ConfigError, match=r"dataset\.mix"):
            from_plain(DatasetConfig, {"mix": [entry]}, "dataset")


def named(part, **said):
    """The same chunks, whose action has other names or units."""
    features = {**part.info.features, "action": {**part.info.features["action"], **said}}
    return dataclasses.replace(part, infos=(dataclasses.replace(part.info, features=features),))


@pytest.mark.parametrize("form", [list, lambda names: [names], lambda names: {"motors": names}])
def test_names_of_dimensions_must_agree(roots, form):
    part, other = load(roots, "a", "b")
    first = named(part, names=["pan", "lift"])
    swapped = named(other, names=form(["lift", "pan"]))
    for ignore in (False, True):
        with pytest.raises(DatasetError, match=r"action in .*b: \['lift', 'pan'\] given, allowed: the order \['pan'"):
            mix([first, swapped], [1, 1], ignore_names=ignore)
    poses = named(other, names=form(["x", "y"]))
    with pytest.raises(DatasetError, match=r"\['x', 'y'\] given, allowed: \['pan', 'lift'\].*ignore_names=true"):
        mix([first, poses], [1, 1])
    assert mix([first, poses], [1, 1], ignore_names=True).frames == part.frames + other.frames
    mixed = mix([first, named(other, names=form(["pan", "lift"]))], [1, 1])
    assert mixed.given_names["action"] == ["pan", "lift"]
    # A dataset that gives no names agrees with any, but then nothing can be found by name.
    assert "action" not in mix([first, other], [1, 1]).given_names


def test_units_must_agree(roots):
    part, other = load(roots, "a", "b")
    with pytest.raises(DatasetError, match=r"units of action in .*b: \['deg', 'deg'\] given, allowed: \['rad', 'mm'"):
        mix([named(part, units=["rad", "mm"]), named(other, units="deg")], [1, 1])
    assert mix([named(part, units="deg"), named(other, units=["deg", "deg"])], [1, 1]).frames


def test_a_camera_is_renamed_in_one_dataset(roots):
    renamed = MixEntry(str(roots / "blind"), rename={PICTURE: FILM})
    config = DatasetConfig(
        mix=[MixEntry(str(roots / "a")), renamed], observations=["observation.state", FILM], validation_fraction=0
    )
    chunks, _ = load_chunks(config, 3)
    alone = ActionChunks.load(roots / "blind", horizon=3, images=[PICTURE])
    rows = torch.arange(22, 32)
    assert torch.equal(chunks.batch(rows)[FILM], alone.batch(range(10))[PICTURE])
    assert f"{FILM}_is_missing" not in chunks.batch(rows)
    with pytest.raises(ConfigError, match=r"^rename: .* null beside dataset.mix"):
        DatasetConfig(mix=config.mix, rename={"a": "b"})
    config.mix[1].rename = {"observation.images.pic": FILM}
    with pytest.raises(DatasetError, match=r"dataset.mix rename: .* did you mean 'observation.images.picture'"):
        load_chunks(config, 3)


@pytest.mark.parametrize(("factor", "units"), [(180 / math.pi, "degrees here and radians"), (math.pi / 180, "radians")])
def test_degrees_beside_radians_are_remarked(roots, factor, units):
    part, other = load(roots, "a", "b")
    assert unit_remarks([part, other]) == []
    columns = {**other.columns, "action": other.columns["action"] * factor}
    (said,) = unit_remarks([part, other, dataclasses.replace(other, columns=columns)])
    assert said.startswith(f"{roots / 'b'}: ")
    assert f"actions look like {units}" in said
