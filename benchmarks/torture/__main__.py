"""Trials of reliability: kills, two at once, disks that refuse, damaged files, tokenizers' codes; prints a table.

``python benchmarks/torture`` does all parts, ``python benchmarks/torture kills disks`` those. The exit status is 1 if
anything ended in a traceback, changed in silence, or hung.
"""

import argparse
import importlib
import inspect
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

PARTS = {"kills": 400, "owners": 40, "disks": 200, "mutations": 4000, "codes": 5_000_000}
"""Modules beside this one, and how much each tries."""
TITLES = ("trial", "tried", "refused in one line", "recovered", "tracebacks", "silent changes", "hangs")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all when none is named")
    parser.add_argument("--count", type=int, help="trials of each part, instead of its own number")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn at random")
    options = parser.parse_args()
    if unknown := set(options.parts) - PARTS.keys():
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    rows: list[tuple[Any, ...]] = []
    for name in options.parts or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            rows += part(name, options.count or PARTS[name], options.seed, Path(folder))
    print(f"| {' | '.join(TITLES)} |\n|{'---|' * len(TITLES)}")
    total = ("all", *(sum(column) for column in zip(*(row[1:] for row in rows), strict=True)))
    for row in (*rows, total):
        print(f"| {' | '.join(map(str, row))} |")
    return int(any(total[4:]))


def part(name: str, count: int, seed: int, folder: Path) -> list[tuple[Any, ...]]:
    """Do a part: its module's ``run_part`` counts, or its ``run`` gives rows of a name and six counts."""
    module = importlib.import_module(name)
    if hasattr(module, "run_part"):
        found = module.run_part(count, seed, folder)
        return [tally.row() for tally in found if tally.tried]
    given = {"count": count, "seed": seed, "folder": folder}
    taken = inspect.signature(module.run).parameters
    return [tuple(row) for row in module.run(**{key: given[key] for key in given if key in taken})]


if __name__ == "__main__":
    sys.exit(main())
