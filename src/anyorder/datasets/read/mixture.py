"""Several datasets as one."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from anyorder.datasets.read.cameras import CameraRows, Cameras
from anyorder.datasets.read.chunks import OBSERVATION, ActionChunks
from anyorder.datasets.read.episodes import episode_borders
from anyorder.datasets.read.folder import INDEX_COLUMNS
from anyorder.datasets.read.images import FrameReader
from anyorder.datasets.read.named import DATASET_INDEX
from anyorder.datasets.read.names import given_names, given_units
from anyorder.envs.features import FPS_TOLERANCE
from anyorder.errors import DatasetError


def mix(
    parts: Sequence[ActionChunks], weights: Sequence[float], missing_cameras: bool = False, ignore_names: bool = False
) -> ActionChunks:
    """Join datasets into one, which ``MixtureOrder`` draws from by weight: a sample is from dataset i with probability
    weights[i] / sum(weights).

    Actions and observations are kept, other features are not. Episodes and frames are numbered on from dataset to
    dataset, task sentences are joined, and the column ``dataset_index`` says where a frame is from.

    Args:
        parts: chunks of one horizon and history.
        weights: one number > 0 a dataset.
        missing_cameras: a dataset may lack a camera that another has. Its frames are then zeros, and batches say so in
            ``<camera>_is_missing`` (B,) bool.
        ignore_names: dimensions may have other names in one dataset than in another; their places then tell which is
            which.

    Raises:
        DatasetError: the datasets do not fit together.
    """
    if len(parts) != len(weights) or not parts or not all(weight > 0 for weight in weights):
        raise DatasetError("dataset.mix weights", list(weights), "one number > 0 a dataset")
    check_rates(parts)
    keys = check_vectors(parts, ignore_names)
    tasks = list(dict.fromkeys(task for part in parts for task in part.tasks))
    columns = {key: torch.cat([part.columns[key] for part in parts]) for key in (*keys, *INDEX_COLUMNS)}
    columns[DATASET_INDEX] = torch.cat([torch.full((part.frames,), i) for i, part in enumerate(parts)])
    columns["task_index"] = torch.cat(
        [torch.tensor([tasks.index(task) for task in p.tasks])[p.columns["task_index"]] for p in parts]
    )
    for key, total in (("episode_index", "total_episodes"), ("index", "total_frames")):
        counts = [max(getattr(part.info, total), int(part.columns[key].max()) + 1) for part in parts]
        first = torch.tensor([0, *counts]).cumsum(0)
        columns[key] = columns[key] + first[columns[DATASET_INDEX]]
    begins, ends = episode_borders(columns["episode_index"])
    return replace(
        parts[0],
        columns=columns,
        begins=begins,
        ends=ends,
        tasks=tasks,
        pictures=join_cameras(parts, missing_cameras),
        infos=tuple(part.info for part in parts),
        weights=tuple(map(float, weights)),
    )


def check_rates(parts: Sequence[ActionChunks]) -> None:
    """Raise a DatasetError if the control rates differ too much."""
    slowest = min(part.fps for part in parts)
    for part in parts:
        if part.fps > (1 + FPS_TOLERANCE) * slowest:
            allowed = f"at most {FPS_TOLERANCE:.0%} above {slowest}, that of the slowest dataset"
            raise DatasetError(f"fps of {part.info.root}", part.fps, allowed)


def check_vectors(parts: Sequence[ActionChunks], ignore_names: bool) -> list[str]:
    """Return the actions and low-dimensional observations, which all datasets must have in the same form."""
    first = parts[0]
    wanted = {key for part in parts for key in part.names if key == "action" or key.startswith(OBSERVATION)}
    for part in parts:
        root = part.info.root
        if wanted - set(part.names):
            allowed = f"{sorted(wanted)}, as in the other datasets; dataset.observations may name fewer"
            raise DatasetError(f"features of {root}", sorted(part.names), allowed)
        for key in sorted(wanted):
            found, expected = ((p.shapes[key], str(p.columns[key].dtype).removeprefix("torch.")) for p in (part, first))
            if found != expected:
                raise DatasetError(f"{key} of {root}", found, f"{expected}, as in {first.info.root}")
    for key in sorted(wanted):
        check_names(parts, key, ignore_names)
    return [key for key in first.names if key in wanted]


def check_names(parts: Sequence[ActionChunks], key: str, ignore_names: bool) -> None:
    """Raise a DatasetError if a feature's dimensions have other names or units in one dataset than in another.

    What a dataset does not say is taken to agree.
    """
    for about, known in (("names", given_names), ("units", given_units)):
        features = [(part.info.features[key], part.info.root) for part in parts]
        said = [(names, root) for feature, root in features if (names := known(feature)) is not None]
        for names, root in said:
            expected, first = said[0]
            allowed = f"{expected}, as in {first}"
            if names == expected:
                continue
            if about == "names" and sorted(names) == sorted(expected):
                allowed = f"the order {allowed}"
            elif about == "names":
                if ignore_names:
                    continue
                allowed += ", or dataset.ignore_names=true, which takes dimensions by their place"
            raise DatasetError(f"{about} of {key} in {root}", names, allowed)


def join_cameras(parts: Sequence[ActionChunks], missing_cameras: bool) -> CameraRows | None:
    """Return the cameras of all datasets; all frames of a camera must have one size."""
    read = [part.cameras for part in parts if part.cameras is not None]
    if not read:
        return None
    shapes: dict[str, tuple[int, int, int]] = {}
    for cameras in read:
        for key, shape in cameras.shapes.items():
            if shapes.setdefault(key, shape) != shape:
                allowed = f"{shapes[key]}, as in the other datasets; dataset.image_size makes them equal"
                raise DatasetError(f"frame size of {key}", shape, allowed)
    readers, numbers, first = [], [], 0
    for part in parts:
        held = [] if part.cameras is None else list(part.cameras.shapes)
        if set(shapes) - set(held) and not missing_cameras:
            allowed = f"{list(shapes)}, as in the other datasets, or dataset.missing_cameras=true"
            raise DatasetError(f"cameras of {part.info.root}", held, allowed)
        if part.pictures is None:
            reader, places = FrameReader(part.info, [], None, part.columns), torch.arange(part.frames)
        else:
            (reader,), places = part.pictures.cameras.readers, part.pictures.numbers
        readers.append(reader)
        numbers.append(places + first)
        first += len(reader)
    return CameraRows(Cameras(readers, shapes), torch.cat(numbers))
