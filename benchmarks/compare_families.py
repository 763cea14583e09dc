"""Every factorization on three tasks: success with Wilson intervals, and what sampling costs.

Every cell is `anyorder train` and `anyorder rollout` with the same network, steps, data and seeds. Finished cells are
kept, so a killed run continues. Prints Markdown. Likelihoods compare where the tokenizer is the same; of bounds the
truth is below.
"""

import json
from pathlib import Path

from cells import Cell, arguments, measure, success

from anyorder.factorization import FactorizationConfig
from anyorder.reports.rollouts import forwards_per_chunk

DEMOS = {"so101_lift": 250, "so101_either": 250, "metaworld_pick-place-v3": 100}
ARMS = (
    ("autoregressive", {}, "fast"),
    ("autoregressive", {"orders": "fixed", "k": 4}, "fast"),
    ("autoregressive", {"orders": "random"}, "fast"),
    ("autoregressive", {}, "dct"),
    ("chunked", {"sizes": [12]}, "dct"),
    ("independent", {}, "dct"),
    ("next_frequency", {}, "dct"),
    ("next_scale", {}, "multiscale_vq"),
    ("masked_diffusion", {}, "fast"),
    ("masked_diffusion", {}, "dct"),
    ("masked_diffusion", {"sampler": "confidence"}, "dct"),
    ("block_diffusion", {}, "dct"),
    ("uniform_diffusion", {}, "dct"),
    ("score_entropy", {}, "dct"),
    ("embedding_diffusion", {}, "dct"),
    ("analog_bits", {}, "dct"),
    ("gaussian_diffusion", {}, "fast"),
    ("flow_matching", {}, "fast"),
    ("mip", {}, "fast"),
    ("regression", {}, "fast"),
)
# Other settings of a family, on the first task alone.
VARIANTS = (ARMS[1], ARMS[2], ARMS[10])


def main() -> None:
    parser = arguments(__doc__, "outputs/compare_families", steps=1500)
    parser.add_argument("--tasks", nargs="+", default=list(DEMOS), choices=list(DEMOS))
    options = parser.parse_args()

    rows = [
        [Cell(task, DEMOS[task], *arm) for task in options.tasks if arm not in VARIANTS or task == options.tasks[0]]
        for arm in ARMS
    ]
    cells = sorted((cell for row in rows for cell in row), key=lambda cell: options.tasks.index(cell.task))
    measure(cells, options)
    heads = [f"{task.split('_', 1)[1]}, {DEMOS[task]} demos" for task in options.tasks]
    print("| family | tokens | nats a chunk | calls a chunk | " + " | ".join(heads) + " |")
    print("|---|---|---:|---:|" + "---|" * len(heads))
    for row in rows:
        cells = [f"{calls(row[0], options.folder):.0f}", *(success(cell, options.folder) for cell in row)]
        cells += [""] * (len(options.tasks) - len(row))
        tokens = row[0].tokenizer if FactorizationConfig.choices[row[0].family]().build().discrete else ""
        print(f"| {row[0].name} | {tokens} | {likelihood(row[0], options.folder)} | {' | '.join(cells)} |")


def likelihood(cell: Cell, folder: Path) -> str:
    """Return the negative log-likelihood on held-out episodes after the last step, with its standard error."""
    lines = (cell.folder(folder) / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines if "val_nll_nats_per_chunk" in line][-1:]
    if not found or found[0]["val_nll_nats_per_chunk"] is None:
        return ""
    sign = "" if FactorizationConfig.named(cell.family, **cell.options).build().exact else "<= "
    return f"{sign}{found[0]['val_nll_nats_per_chunk']:.1f} ({found[0]['val_nll_standard_error']:.1f})"


def calls(cell: Cell, folder: Path) -> float:
    """Return the network calls a chunk took in the rollouts, on average."""
    lines = (cell.folder(folder) / "rollout/episodes.jsonl").read_text().splitlines()
    summary = json.loads((cell.folder(folder) / "rollout/summary.json").read_text())
    found = forwards_per_chunk([json.loads(line) for line in lines], summary["n_action_steps"])
    assert found is not None
    return found


if __name__ == "__main__":
    main()
