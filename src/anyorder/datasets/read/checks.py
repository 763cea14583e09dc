"""What a dataset must be before it may be trained on."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from anyorder.datasets.read.episodes import OWN, Remedies
from anyorder.errors import DatasetError
from anyorder.files import Words


def check_finite(columns: Mapping[str, Tensor], index: Mapping[str, Tensor], remedies: Remedies = OWN) -> None:
    """Raise a DatasetError that names feature, episode and frame of the first NaN or infinite value.

    ``columns`` are (frames, *shape) each, those that are used; ``index`` has ``episode_index`` and ``frame_index``;
    the message ends with the ``remedies``.
    """
    for key, values in columns.items():
        if not values.is_floating_point() or not len(values):
            continue
        finite = torch.isfinite(values.reshape(len(values), -1))
        if finite.all():
            continue
        row = int((~finite).any(dim=1).nonzero()[0])
        episode, frame = int(index["episode_index"][row]), int(index["frame_index"][row])
        bad = float(values[row].flatten()[~finite[row]][0])
        hint = remedies.leave_out.format(episode)
        if key.startswith("observation."):
            hint += f", {remedies.read_less}"
        raise DatasetError(f"{key} in episode {episode}, frame {frame}", bad, f"finite numbers; {hint}")


def check_order(columns: Mapping[str, Tensor], remedies: Remedies = OWN) -> None:
    """Check by ``episode_index`` and ``frame_index`` (frames,) that each episode's rows lie in the order of its frames.

    Chunks are made of rows that follow one another, so that two episodes of one number, as datasets joined by hand
    have them, would run into each other.

    Raises:
        DatasetError: names the episode.
    """
    episode, frame = columns["episode_index"], columns["frame_index"]
    allowed = f"its frames one after the other; {remedies.leave_out}"
    back = (episode.diff() == 0) & (frame.diff() < 0)
    if back.any():
        row = int(back.nonzero()[0])
        number, after = int(episode[row]), f"frame {int(frame[row + 1])} after frame {int(frame[row])}"
        raise DatasetError(f"rows of episode {number}", Words(after), allowed.format(number))
    runs, counts = torch.unique_consecutive(episode).unique(return_counts=True)
    if (counts > 1).any():
        number, times = int(runs[counts > 1][0]), int(counts[counts > 1][0])
        raise DatasetError(f"rows of episode {number}", Words(f"{times} parts"), allowed.format(number))


def check_lengths(episodes: Sequence[int], lengths: Tensor, horizon: int, allow_short: bool) -> None:
    """Raise a DatasetError if ``episodes``, of ``lengths`` (episodes,) int64 frames, are shorter than the horizon.

    With ``allow_short`` that is fine (they are padded) unless all of them are.
    """
    short = (lengths < horizon).nonzero().flatten().tolist()
    if not short or (allow_short and len(short) < len(lengths)):
        return
    if allow_short:
        raise DatasetError("chunk_size", horizon, f"at most {int(lengths.max())}, the frames of the longest episode")
    field = f"frames of episode {episodes[short[0]]}"
    allowed = (
        f"at least chunk_size={horizon}; {len(short)} of {len(lengths)} episodes are shorter "
        f"(dataset.allow_short=true pads them by their last action)"
    )
    raise DatasetError(field, int(lengths[short[0]]), allowed)
