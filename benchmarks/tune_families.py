"""A small search for every family alike: learning rate, clipping, decay, regularization, size, by held-out error.

Each setting is changed alone from the defaults. All families get the same settings, steps, seeds and task, which is
none of those that tables report. Nothing is rolled out. Finished cells are kept, so a killed run continues. Prints
Markdown. What is best for a column goes to ``tuned.json``, which ``compare_heads.py --tuned`` reads; size is left out
of it, since a larger network also takes longer.
"""

import json
from typing import Any

from arms import CONTINUOUS, FAMILIES, Arm
from cells import arguments, finished, measure

TASK, DEMOS = "metaworld_window-open-v3", 50
SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "learning rate 0.001": {"optimizer": {"lr": 1e-3}},
    "learning rate 0.01": {"optimizer": {"lr": 1e-2}},
    "gradients clipped at 100": {"optimizer": {"grad_clip_norm": 100.0}},
    "weight decay 1": {"optimizer": {"weight_decay": 1.0}},
    "weight decay 3.2": {"optimizer": {"weight_decay": 3.2}},
    "dropout 0.05": {"network": {"dropout": 0.05}},
    "observation noise 0.01": {"observation_noise": 0.01},
}
SIZES: dict[str, dict[str, Any]] = {"width 128": {"network": {"width": 128}}, "depth 4": {"network": {"depth": 4}}}
TARGETS: dict[str, dict[str, dict[str, Any]]] = {
    "soft targets": {
        "weight 0.1, width 0.7": {"head": {"soft_targets": 0.1, "soft_width": 0.7}},
        "weight 0.1, width 2.2": {"head": {"soft_targets": 0.1}},
        "weight 1, width 2.2": {},
    },
    "ordinal + L1": {
        "weight 0.01": {"head": {"expected_l1": 0.01}},
        "weight 0.1": {},
        "weight 1": {"head": {"expected_l1": 1.0}},
    },
}
"""Weights of what is added to the training loss; all else is as tuned for the head without it."""
PLAIN = {"soft targets": "softmax", "ordinal + L1": "ordinal"}
"""The head without what is added."""


def main() -> None:
    parser = arguments(__doc__, "outputs/tune_families", steps=300)
    parser.add_argument("--task", default=TASK, help="a name as of anyorder record env=")
    parser.add_argument("--demos", type=int, default=DEMOS, help="how many demonstrations")
    parser.add_argument("--seeds", nargs="+", type=int, default=(10, 11), help="of training")
    parser.add_argument("--families", nargs="+", default=(*FAMILIES, *CONTINUOUS), choices=(*FAMILIES, *CONTINUOUS))
    parser.add_argument("--sizes", action="store_true", help="also a wider and a deeper network")
    parser.set_defaults(episodes=0)
    options = parser.parse_args()
    tokens = [family for family in options.families if family in FAMILIES]
    arms = [Arm(family, head) for head in PLAIN.values() for family in tokens]
    arms += [Arm(family) for family in options.families if family in CONTINUOUS]

    print(f"{options.task}, {options.demos} demonstrations, {options.steps} steps, seeds {[*options.seeds]}")
    settings = SETTINGS | (SIZES if options.sizes else {})
    errors = search(arms, dict.fromkeys(arms, settings), options)
    best = {arm.name: settings[least(errors[arm], SETTINGS)] for arm in arms}
    show("setting", errors)
    for head, plain in PLAIN.items():
        weighted = [Arm(family, head) for family in tokens]
        base = {arm: best[Arm(arm.family, plain).name] for arm in weighted}
        tried = {arm: {name: joined(base[arm], change) for name, change in TARGETS[head].items()} for arm in weighted}
        errors = search(weighted, tried, options)
        best |= {arm.name: tried[arm][least(errors[arm], TARGETS[head])] for arm in weighted}
        show(head, errors)
    (options.folder / "tuned.json").write_text(json.dumps(best, indent=1))


def search(arms: list[Arm], settings: dict[Arm, dict[str, Any]], options: Any) -> dict[Arm, dict[str, float]]:
    """Return the mean held-out error of every arm with each of its settings."""
    cells = {
        (arm, name): [arm.cell(options.task, options.demos, seed, changes) for seed in options.seeds]
        for arm in arms
        for name, changes in settings[arm].items()
    }
    measure([cell for row in cells.values() for cell in row], options)
    errors: dict[Arm, dict[str, float]] = {arm: {} for arm in arms}
    for (arm, name), row in cells.items():
        found = [result.error for cell in row if (result := finished(cell, options))]
        errors[arm][name] = sum(found) / len(found)
    return errors


def least(errors: dict[str, float], among: dict[str, Any]) -> str:
    """Return the setting of the least error."""
    return min(among, key=lambda name: errors[name])


def joined(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Return one set of changes after another."""
    return {key: base.get(key, {}) | change[key] if key in change else base[key] for key in base | change}


def show(what: str, errors: dict[Arm, dict[str, float]]) -> None:
    """Print held-out errors, an arm a column."""
    print(f"\n| {what} | {' | '.join(arm.name for arm in errors)} |")
    print("|---|" + "---:|" * len(errors))
    for name in next(iter(errors.values()), {}):
        print(f"| {name} | {' | '.join(f'{row[name]:.4f}' for row in errors.values())} |")


if __name__ == "__main__":
    main()
