"""What a token's distribution is worth: heads crossed with factorizations, by likelihood, held-out error and success.

The same demonstrations, network, tokens, steps and training seeds in every cell. Nobody is regularised, or, with
``--tuned``, everybody has what ``tune_families.py`` found best for it. Rollouts meet the same episodes. Finished cells
are kept, so a killed run continues. Prints Markdown.
"""

from collections.abc import Callable
from pathlib import Path

from arms import CONTINUOUS, FAMILIES, HEADS, Arm, spread, tuned
from cells import Result, arguments, finished, measure, rate

TASKS = ("so101_lift", "so101_pick_place", "metaworld_pick-place-v3")
MEASURES: dict[str, Callable[[list[Result]], str]] = {
    "Successes, with Wilson's 95 % interval over the pooled episodes": lambda found: rate(
        sum(result.successes for result in found), sum(result.episodes for result in found)
    ),
    "Error of held-out chunks, in half of an action's range": lambda found: spread([r.error for r in found], 3),
    "NLL of held-out chunks, nats an action value, of masked diffusion a bound": lambda found: spread(
        [r.nll for r in found if r.nll is not None], 3
    ),
    "NLL of chunks learnt from, likewise": lambda found: spread(
        [r.train_nll for r in found if r.train_nll is not None], 3
    ),
    "CPU seconds of training and validation": lambda found: spread([r.cpu_s for r in found], 0),
}
"""Tables by their titles, each with what a cell says of its seeds."""


def main() -> None:
    parser = arguments(__doc__, "outputs/compare_heads", steps=300)
    parser.add_argument("--tasks", nargs="+", default=TASKS, help="names as of anyorder record env=")
    parser.add_argument("--demos", nargs="+", type=int, default=(50, 100), help="how many demonstrations")
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2), help="of training")
    parser.add_argument("--families", nargs="+", default=(*FAMILIES, *CONTINUOUS), choices=(*FAMILIES, *CONTINUOUS))
    parser.add_argument("--heads", nargs="+", default=tuple(HEADS), choices=HEADS)
    parser.add_argument("--tuned", type=Path, help="tuned.json of tune_families.py")
    parser.add_argument("--table-only", action="store_true", help="print what is on disk")
    options = parser.parse_args()

    arms = [Arm(family, head) for family in options.families if family in FAMILIES for head in options.heads]
    arms += [Arm(family) for family in options.families if family in CONTINUOUS]
    places = [(task, demos) for task in options.tasks for demos in options.demos]
    rows = {
        (arm, place): [arm.cell(*place, seed, tuned(arm, options.tuned)) for seed in options.seeds]
        for place in places
        for arm in arms
    }
    # The first seed of every cell comes first, so that an unfinished run already compares.
    every = [row[i] for i in range(len(options.seeds)) for row in rows.values()]
    if not options.table_only:
        measure(every, options)
    done = {key: [result for cell in row if (result := finished(cell, options))] for key, row in rows.items()}
    for what, text in MEASURES.items():
        print(f"\n{what}:\n")
        print(f"| family, head | {' | '.join(f'{task}, {demos}' for task, demos in places)} |")
        print("|---|" + "---:|" * len(places))
        for arm in arms:
            print(f"| {arm.name} | {' | '.join(text(done[arm, place]) for place in places)} |")
    seeds = sorted({len(row) for row in done.values()})
    print(
        f"\nCells have {seeds[0]} to {seeds[-1]} training seeds of {options.episodes} episodes; brackets: their range."
    )


if __name__ == "__main__":
    main()
