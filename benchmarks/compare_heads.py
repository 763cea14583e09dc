"""What a token's distribution is worth: heads crossed with factorizations, by likelihood, held-out error and success.

The same demonstrations, network, tokens, steps and training seeds in every cell. Nobody is regularised, or, with
``--tuned``, everybody has what ``tune_families.py`` found best for it. Rollouts meet the same episodes. Finished cells
are kept, so a killed run continues. Prints Markdown.
"""

from pathlib import Path

from arms import CONTINUOUS, FAMILIES, HEADS, Arm, figures, tuned
from cells import arguments, held_out, measure, rate

TASKS = ("so101_lift", "so101_pick_place", "metaworld_pick-place-v3")


def main() -> None:
    parser = arguments(__doc__, "outputs/compare_heads", steps=300)
    parser.add_argument("--tasks", nargs="+", default=TASKS, help="names as of anyorder record env=")
    parser.add_argument("--demos", nargs="+", type=int, default=(50, 100), help="how many demonstrations")
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2), help="of training")
    parser.add_argument("--families", nargs="+", default=(*FAMILIES, *CONTINUOUS), choices=(*FAMILIES, *CONTINUOUS))
    parser.add_argument("--heads", nargs="+", default=tuple(HEADS), choices=HEADS)
    parser.add_argument("--tuned", type=Path, help="tuned.json of tune_families.py")
    options = parser.parse_args()

    arms = [Arm(family, head) for family in options.families if family in FAMILIES for head in options.heads]
    arms += [Arm(family) for family in options.families if family in CONTINUOUS]
    rows = {
        (task, demos, arm): [arm.cell(task, demos, seed, tuned(arm, options.tuned)) for seed in options.seeds]
        for task in options.tasks
        for demos in options.demos
        for arm in arms
    }
    # The first seed of every cell comes first, so that an unfinished run already compares.
    every = [row[i] for i in range(len(options.seeds)) for row in rows.values()]
    outcomes = measure(every, options)
    heads = ("task, demonstrations", "family, head", "training NLL", "held-out NLL", "held-out error", "CPU s")
    print(f"\n| {' | '.join((*heads, 'success (95 % Wilson)'))} |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for (task, demos, arm), row in rows.items():
        numbers = figures([held_out(run, options.folder) for run in row])
        success = rate(sum(outcomes[run.folder(options.folder)] for run in row), options.episodes * len(row))
        print(f"| {task}, {demos} | {arm.name} | {' | '.join((*numbers, success))} |")
    print(
        "\nNLL: nats an action value, of masked diffusion a bound. Error: of the range. In brackets: range over seeds."
    )


if __name__ == "__main__":
    main()
