"""What a dataset must be before it may be trained on."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from anyorder.errors import DatasetError, bad_value


def check_finite(columns: Mapping[str, Tensor]) -> None:
    """Raise a DatasetError that names feature, episode and frame of the first NaN or infinite value."""
    for key, values in columns.items():
        if not values.is_floating_point():
            continue
        finite = torch.isfinite(values.reshape(len(values), -1))
        if finite.all():
            continue
        row = int((~finite).any(dim=1).nonzero()[0])
        episode, frame = int(columns["episode_index"][row]), int(columns["frame_index"][row])
        bad = float(values[row].flatten()[~finite[row]][0])
        raise DatasetError(bad_value(f"{key} in episode {episode}, frame {frame}", bad, "finite numbers"))


def check_lengths(episodes: Sequence[int], lengths: Tensor, horizon: int, allow_short: bool) -> None:
    """Raise a DatasetError if episodes are shorter than the horizon.

    With ``allow_short`` that is fine (they are padded) unless all of them are.

    Args:
        episodes: their numbers, for the message.
        lengths: (episodes,) int64 frames.
        horizon: frames of a chunk.
        allow_short: accept short episodes.
    """
    short = (lengths < horizon).nonzero().flatten().tolist()
    if not short or (allow_short and len(short) < len(lengths)):
        return
    if allow_short:
        allowed = f"at most {int(lengths.max())}, the frames of the longest episode"
        raise DatasetError(bad_value("horizon", horizon, allowed))
    field = f"frames of episode {episodes[short[0]]}"
    allowed = f"at least {horizon}, the horizon; {len(short)} of {len(lengths)} episodes are shorter"
    raise DatasetError(bad_value(field, int(lengths[short[0]]), f"{allowed} (allow_short=True pads them)"))
