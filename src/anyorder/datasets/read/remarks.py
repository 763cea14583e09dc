"""What in a dataset is allowed and yet likely a mistake, one line each, told before anything is learnt from it."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from anyorder.datasets.read.chunks import ACTION, OBSERVATION, ActionChunks
from anyorder.datasets.read.folder import missing_numbers

TURNS = (360.0, 2 * math.pi)
"""A full turn is this much, in degrees and in radians."""
FEW_FRAMES = 3
SMALL_STEP = 0.1
"""What moves by more than this share of a turn from frame to frame, half of the time, is no angle but noise."""
SHARE = 0.5
"""A remark is made where a few frames alone span this share of a dimension's range, or an angle jumps by it at once."""
MOST = 4
"""At most this many remarks of one kind are made."""


def remarks(chunks: ActionChunks) -> list[str]:
    """Return remarks on the episodes held: gaps in their numbers, glitches, and angles that wrap."""
    found = []
    whole = len(chunks.episode_ids) == chunks.info.total_episodes
    if whole and (gaps := missing_numbers([-1, *chunks.episode_ids])):
        found.append(f"episode numbers have gaps ({gaps}): read here, but not by LeRobot's own tools")
    glitches, wraps = list(_glitches(chunks)), list(_wraps(chunks))
    for kind in (glitches, wraps):
        found += kind[:MOST]
        if len(kind) > MOST:
            found.append(f"the same of {len(kind) - MOST} more dimensions")
    return found


def unit_remarks(parts: Sequence[ActionChunks]) -> list[str]:
    """Return a remark for each dataset of a mixture whose actions seem to be in other units than those of the first.

    Radians and degrees differ by a factor of 57. A remark is made where more than half of the dimensions span between
    half and twice as much more, or less, than in the first dataset.
    """
    spans = [part.columns[ACTION].flatten(1).aminmax(dim=0) for part in parts]
    sizes = [(most - least).double() for least, most in spans]
    found = []
    for part, size in zip(parts[1:], sizes[1:], strict=True):
        moving = (size > 0) & (sizes[0] > 0)
        factors = (size[moving] / sizes[0][moving]).log()
        for units, factor in (("degrees here and radians", factors), ("radians here and degrees", -factors)):
            odd = ((factor - math.log(180 / math.pi)).abs() < math.log(2)).sum()
            if 2 * int(odd) > len(size):
                where = f"{part.info.root}: {int(odd)} of {len(size)} actions look like {units} in"
                found.append(f"{where} {parts[0].info.root}; a mixture needs one unit")
    return found


def _dimensions(chunks: ActionChunks) -> Iterator[tuple[str, Tensor]]:
    """Yield every dimension of the actions and observations in floating point: its name and values (frames,)."""
    for key, names in chunks.names.items():
        values = chunks.columns[key]
        if values.is_floating_point() and values.dim() < 3 and (key == ACTION or key.startswith(OBSERVATION)):
            columns = values.reshape(chunks.frames, -1).cpu().unbind(1)
            yield from ((f"{key} {name}", column) for name, column in zip(names, columns, strict=True))


def _place(chunks: ActionChunks, row: int) -> str:
    columns = chunks.columns
    return f"episode {int(columns['episode_index'][row])}, frame {int(columns['frame_index'][row])}"


def _glitches(chunks: ActionChunks) -> Iterator[str]:
    """Yield the dimensions whose range is mostly that of one frame, or of very few."""
    few = max(1, min(FEW_FRAMES, chunks.frames // 50), chunks.frames // 1000)
    for name, values in _dimensions(chunks):
        if chunks.frames < 2 * few + 2:
            continue
        for sign in (1, -1):
            top = (sign * values).topk(few + 1)
            least = float((sign * values).min())
            extreme, usual = float(top.values[0]), float(top.values[-1])
            # Between the extreme frames and all others there is more than half of the range.
            above = int((top.values - usual > SHARE * (extreme - least)).sum())
            if above:
                low, high = sorted((sign * least, sign * float(top.values[above])))
                yield (
                    f"{name} is {sign * extreme:g} in {_place(chunks, int(top.indices[0]))}, and in all but {above} "
                    f"frames between {low:g} and {high:g}: a glitch makes all other motion small once normalised "
                    f"(dataset.exclude_episodes leaves episodes out)"
                )
                break


def _wraps(chunks: ActionChunks) -> Iterator[str]:
    """Yield the dimensions that are an angle's and jump by more than half a turn from a frame to the next."""
    inside = torch.diff(chunks.begins.cpu()) == 0
    for name, values in _dimensions(chunks):
        span = float(values.max() - values.min())
        steps = torch.where(inside, values.diff(), 0.0)
        if not len(steps):
            continue
        row = int(steps.abs().argmax())
        jump, usual = abs(float(steps[row])), float(steps.abs().median())
        if any(
            0.9 * turn < span <= 1.001 * turn and jump > SHARE * turn and usual < SMALL_STEP * turn for turn in TURNS
        ):
            yield (
                f"{name} jumps from {float(values[row]):g} to {float(values[row + 1]):g} in "
                f"{_place(chunks, row + 1)}: an angle that wraps is learnt badly, unwrap it in the data"
            )
