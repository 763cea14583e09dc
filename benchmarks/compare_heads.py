"""What a token's distribution is worth: heads crossed with factorizations, by held-out error, likelihood and success.

The same demonstrations, network, tokens, steps and training seeds in every cell; nobody is regularised. Rollouts meet
the same episodes. Finished cells are kept, so a killed run continues. Prints Markdown.
"""

from typing import Any

from cells import Cell, HeldOut, arguments, held_out, measure, rate

HEADS: dict[str, dict[str, Any]] = {"softmax": {"distribution": "categorical"}, "ordinal": {"distribution": "ordinal"}}
FAMILIES = ("autoregressive", "next_frequency", "masked_diffusion", "independent")
TASKS = ("so101_lift", "so101_pick_place", "metaworld_pick-place-v3")
PEERS = ("regression", "mip")


def main() -> None:
    parser = arguments(__doc__, "outputs/compare_heads", steps=300)
    parser.add_argument("--tasks", nargs="+", default=TASKS, help="names as of anyorder record env=")
    parser.add_argument("--demos", nargs="+", type=int, default=(50, 100), help="how many demonstrations")
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2), help="of training")
    parser.add_argument("--families", nargs="+", default=FAMILIES, choices=FAMILIES)
    options = parser.parse_args()

    arms = [(family, {"head": head}, name) for family in options.families for name, head in HEADS.items()]
    arms += [(family, {}, "") for family in PEERS]
    rows = {
        (task, demos, family, name): [
            Cell(task, demos, family, tokenizer="dct", seed=seed, training=training) for seed in options.seeds
        ]
        for task in options.tasks
        for demos in options.demos
        for family, training, name in arms
    }
    # The first seed of every cell comes first, so that an unfinished run already compares.
    every = [row[i] for i in range(len(options.seeds)) for row in rows.values()]
    outcomes = measure(every, options.folder, options.steps, options.episodes, options.workers)
    heads = ("task, demonstrations", "family", "head", "training nats a chunk", "held-out nats a value")
    print(f"| {' | '.join((*heads, 'held-out error', 'success (95 % Wilson)', 'CPU s'))} |")
    print("|---|---|---|---:|---:|---:|---:|---:|")
    for (task, demos, family, name), row in rows.items():
        training, nll, error, cpu_s = figures([held_out(run, options.folder) for run in row])
        success = rate(sum(outcomes[run.folder(options.folder)] for run in row), options.episodes * len(row))
        print(f"| {task}, {demos} | {family} | {name} | {training} | {nll} | {error} | {success} | {cpu_s} |")


def figures(found: list[HeldOut]) -> tuple[str, str, str, str]:
    """Return means over the seeds with their ranges: training and held-out NLL, error, seconds."""
    nll = [run.nll for run in found if run.nll is not None]
    training = [run.train_nll for run in found] if nll else []
    parts = ((training, 1), (nll, 3), ([run.error for run in found], 4), ([run.cpu_s for run in found], 0))
    texts = [f"{sum(x) / len(x):.{n}f} ({min(x):.{n}f}-{max(x):.{n}f})" if x else "" for x, n in parts]
    return texts[0], texts[1], texts[2], texts[3]


if __name__ == "__main__":
    main()
