"""Five SO-101 tasks x four factorizations x two numbers of demonstrations: success with Wilson intervals.

Every cell is `anyorder train` and `anyorder rollout` with the same network, steps and seeds. As in the demo, the
factorization differs, and the autoregressive policy alone is regularised. Finished cells are kept, so a killed run
continues. Prints Markdown.
"""

from cells import Cell, arguments, measure, success

TASKS = ("lift", "push", "pick_place", "stack", "either")
FAMILIES = ("autoregressive", "masked_diffusion", "gaussian_diffusion", "regression")


def main() -> None:
    parser = arguments(__doc__, "outputs/compare_tasks", steps=400)
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--families", nargs="+", default=FAMILIES, choices=FAMILIES)
    parser.add_argument("--demos", nargs="+", type=int, default=(20, 100))
    options = parser.parse_args()

    rows = [
        [Cell(f"so101_{task}", count, family) for family in options.families]
        for task in options.tasks
        for count in options.demos
    ]
    cells = [cell for row in rows for cell in row]
    measure(cells, options)
    print("| task | demos | " + " | ".join(options.families) + " |\n|---|---:|" + "---|" * len(options.families))
    for row in rows:
        task = row[0].task.removeprefix("so101_")
        print(f"| {task} | {row[0].demos} | " + " | ".join(success(cell, options.folder) for cell in row) + " |")


if __name__ == "__main__":
    main()
