"""A small search for every family alike: learning rate, clipping, decay, size, regularization, by held-out error.

Each setting is changed alone from the defaults. All families get the same settings, steps, seeds and task, which is
none of those that tables report. Nothing is rolled out. Finished cells are kept, so a killed run continues. Prints
Markdown; the best of a column is what a family should have.
"""

from typing import Any

from cells import Cell, arguments, held_out, measure

TASK, DEMOS = "metaworld_window-open-v3", 50
FAMILIES = (
    "autoregressive",
    "next_frequency",
    "masked_diffusion",
    "independent",
    "gaussian_diffusion",
    "mip",
    "regression",
)
SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "learning rate 0.001": {"optimizer": {"lr": 1e-3}},
    "learning rate 0.01": {"optimizer": {"lr": 1e-2}},
    "gradients clipped at 100": {"optimizer": {"grad_clip_norm": 100.0}},
    "weight decay 1": {"optimizer": {"weight_decay": 1.0}},
    "weight decay 3.2": {"optimizer": {"weight_decay": 3.2}},
    "dropout 0.05": {"network": {"dropout": 0.05}},
    "observation noise 0.01": {"observation_noise": 0.01},
    "width 128": {"network": {"width": 128}},
    "depth 4": {"network": {"depth": 4}},
}


def main() -> None:
    parser = arguments(__doc__, "outputs/tune_families", steps=300)
    parser.add_argument("--task", default=TASK, help="a name as of anyorder record env=")
    parser.add_argument("--demos", type=int, default=DEMOS, help="how many demonstrations")
    parser.add_argument("--seeds", nargs="+", type=int, default=(10, 11), help="of training")
    parser.add_argument("--families", nargs="+", default=FAMILIES, choices=FAMILIES)
    parser.set_defaults(episodes=0)
    options = parser.parse_args()

    cells = {
        (name, family): [
            Cell(options.task, options.demos, family, tokenizer="dct", seed=seed, training=training)
            for seed in options.seeds
        ]
        for name, training in SETTINGS.items()
        for family in options.families
    }
    every = [cell for row in cells.values() for cell in row]
    measure(every, options.folder, options.steps, options.episodes, options.workers)
    what = f"{options.task}, {options.demos} demonstrations, {options.steps} steps, seeds {[*options.seeds]}"
    print(f"{what}: held-out error")
    print(f"| setting | {' | '.join(options.families)} |")
    print("|---|" + "---:|" * len(options.families))
    for name in SETTINGS:
        errors = []
        for family in options.families:
            found = [held_out(cell, options.folder).error for cell in cells[name, family]]
            errors.append(f"{sum(found) / len(found):.4f}")
        print(f"| {name} | {' | '.join(errors)} |")


if __name__ == "__main__":
    main()
