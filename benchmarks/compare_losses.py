"""The losses of MIP and of regression: ours against those of the released code, by success on two tasks.

MIP's residuals unweighted (the paper's formula) or divided by t and 1 - t (its code); regression's error absolute or
squared. Same demonstrations, network, steps and training seeds. Each policy is rolled out on the same episodes, which
are those that choose (from seed 500,000 on): the episodes that tables report begin at 1,000,000. The two of a pair are
compared episode by episode, by an exact McNemar test. Finished cells are kept, so a killed run continues. Prints
Markdown.
"""

import json
from pathlib import Path

from cells import Cell, arguments, measure, rate

from anyorder.rollouts.statistics import mcnemar_p

CHOOSING_SEED = 500_000
TASKS = {"so101_lift": 25, "so101_pick_place": 100}
SEEDS = (0, 1, 2)
PAIRS = ((("mip", {}), ("mip", {"weighted": True})), (("regression", {}), ("regression", {"norm": "l2"})))


def main() -> None:
    parser = arguments(__doc__, "outputs/compare_losses", steps=1500)
    options = parser.parse_args()

    def cells(task: str, family: str, settings: dict[str, object]) -> list[Cell]:
        return [Cell(task, TASKS[task], family, settings, seed=seed) for seed in SEEDS]

    every = [cell for task in TASKS for pair in PAIRS for arm in pair for cell in cells(task, *arm)]
    measure(every, options, CHOOSING_SEED)
    heads = ("task, demonstrations", "loss", "successes (95 % Wilson)", "of each seed", "only this of the pair", "p")
    print(f"| {' | '.join(heads)} |")
    print("|---|---|---:|---:|---:|---:|")
    for task, demos in TASKS.items():
        for pair in PAIRS:
            results = [successes(cells(task, *arm), options.folder) for arm in pair]
            alone = [
                sum(a and not b for a, b in zip(one, other, strict=True)) for one, other in (results, results[::-1])
            ]
            p = mcnemar_p(*alone)
            for arm, result, only in zip(pair, results, alone, strict=True):
                name = cells(task, *arm)[0].name
                part = len(result) // len(SEEDS)
                each = ", ".join(str(sum(result[i : i + part])) for i in range(0, len(result), part))
                success = rate(sum(result), len(result))
                print(f"| {task}, {demos} | {name} | {success} | {each} | {only} | {p:.2g} |")


def successes(cells: list[Cell], folder: Path) -> list[bool]:
    """Return the outcome of every episode, in the order of training seeds and of episodes."""
    found = []
    for cell in cells:
        lines = (cell.folder(folder) / "rollout/episodes.jsonl").read_text().splitlines()
        episodes = sorted((json.loads(line) for line in lines), key=lambda episode: episode["seed"])
        assert episodes[0]["seed"] >= CHOOSING_SEED
        found += [bool(episode["success"]) for episode in episodes]
    return found


if __name__ == "__main__":
    main()
