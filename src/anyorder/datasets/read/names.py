"""Names of a feature's dimensions, in every form that ``meta/info.json`` is found to have them."""

import itertools
import math
from collections.abc import Mapping
from typing import Any


def dimension_names(feature: Mapping[str, Any]) -> list[str]:
    """Return one name a dimension, for tables: numbers where the dataset has none."""
    return given_names(feature) or [str(i) for i in range(math.prod(feature["shape"]))]


def given_names(feature: Mapping[str, Any]) -> list[str] | None:
    """Return the names that a dataset gives the dimensions of a feature, in order; None where it gives none.

    Known forms: a list, a list of lists (``[["pan", "lift"]]``), a dict of a list (``{"motors": [...]}``), of several
    (``{"left": [...], "right": [...]}``: their names get the key in front unless they differ anyway), of places
    (``{"pan": 0, "lift": 1}``), or one list an axis of the shape. Numbers are no names.

    >>> given_names({"shape": [2], "names": {"motors": {"lift": 1, "pan": 0}}})
    ['pan', 'lift']
    >>> given_names({"shape": [2, 2], "names": {"left": ["pan", "lift"], "right": ["pan", "lift"]}})
    ['left.pan', 'left.lift', 'right.pan', 'right.lift']
    """
    shape, names = list(feature["shape"]), feature.get("names")
    found = _flat(names)
    if found is not None and len(found) != math.prod(shape):
        found = _crossed(names, shape)
    return None if found is None or all(name.strip().isdecimal() for name in found) else found


def given_units(feature: Mapping[str, Any]) -> list[str] | None:
    """Return the unit of each dimension, where a dataset says it as ``units`` or ``unit``; one stands for all.

    >>> given_units({"shape": [2], "units": "deg"})
    ['deg', 'deg']
    """
    units = _flat(next((feature[key] for key in ("units", "unit") if feature.get(key)), None))
    size = math.prod(feature["shape"])
    if units is not None and len(units) == 1:
        units *= size
    return units if units is not None and len(units) == size else None


def _crossed(names: Any, shape: list[int]) -> list[str] | None:
    """Return the names of a table's cells, out of those of its rows and of its columns: ``left.pan``, ..."""
    axes = [_flat(axis) or [] for axis in (names.values() if isinstance(names, Mapping) else names)]
    if [len(axis) for axis in axes] != shape:
        return None
    return [".".join(cell) for cell in itertools.product(*axes)]


def _flat(names: Any) -> list[str] | None:
    """Return names in order, out of whatever they are nested in; None where they make no sense."""
    if isinstance(names, str):
        return [names]
    if isinstance(names, list):
        parts = [_flat(part) for part in names]
        return None if None in parts else [name for part in parts if part is not None for name in part]
    if not isinstance(names, Mapping) or not names:
        return None
    values = list(names.values())
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        in_order = sorted(names, key=lambda name: int(names[name]))
        return in_order if sorted(values) == list(range(len(values))) else None
    if all(str(key).isdecimal() for key in names):
        names = {key: names[key] for key in sorted(names, key=int)}
    groups = {str(key): _flat(value) for key, value in names.items()}
    if any(group is None for group in groups.values()):
        return None
    plain = [name for group in groups.values() for name in group or []]
    if len(set(plain)) == len(plain) or len(groups) == 1:
        return plain
    return [f"{key}.{name}" for key, group in groups.items() for name in group or []]
