"""How often planted constants lie in their intervals, and what a fit costs; prints a Markdown table.

Each draw plants a law on a grid of runs, multiplies the losses by log-normal noise, fits the law again and asks
which of the seven constants lie in their 95 % intervals: in those that ``anyorder fit`` reports, which hold
together, and in single ones, each for itself. Seconds are CPU time of one core, with 200 resamples.

    python benchmarks/bench_fit.py --draws 50
"""

import argparse
import os
import time
from dataclasses import dataclass

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from anyorder.laws.config import FitConfig
from anyorder.laws.fit import fit
from anyorder.laws.intervals import bootstrap, intervals
from anyorder.laws.law import CONSTANTS, constants_array, predict
from anyorder.laws.runs import Runs, make_runs

SEVEN = CONSTANTS[:7]


@dataclass(frozen=True)
class Grid:
    """Every combination of these is a run."""

    unique_tokens: tuple[float, ...]
    epochs: tuple[float, ...]
    params: tuple[float, ...]

    def runs(self, constants: np.ndarray, noise: float, seed: int) -> Runs:
        """Return the runs of a law, their losses times log-normal noise."""
        u, epochs, n = (axis.ravel() for axis in np.meshgrid(self.unique_tokens, self.epochs, self.params))
        errors = np.random.default_rng(seed).standard_normal(len(u))
        return make_runs(n, u * epochs, u, predict(constants, n, u * epochs, u) * np.exp(noise * errors))


# The grid of arXiv 2507.15857, and one of the size that robot demonstrations have.
TEXT = Grid((25e6, 50e6, 100e6), (1, 2, 4, 10, 30, 100, 300, 800), tuple(np.geomspace(7e6, 2.5e9, 12)))
ACTIONS = Grid(tuple(np.geomspace(1e3, 3e5, 5)), (1, 3, 10, 30, 100, 300, 1000), tuple(np.geomspace(1e4, 3e6, 8)))
LAWS = {
    "R_D 31, text": (TEXT, (400, 1500, 1.7, 0.34, 0.36, 31, 55)),
    "R_D 494, text": (TEXT, (400, 2500, 1.7, 0.34, 0.36, 494, 1266)),
    "R_D 15, text": (TEXT, (520.8, 1487.7, 1.869, 0.3527, 0.3527, 15.4, 5.3)),
    "R_D 20, actions": (ACTIONS, (8, 20, 0.6, 0.3, 0.4, 20, 10)),
}


def row(name: str, noise: float, draws: int, two_step: bool) -> str:
    """Return one row of the table."""
    grid, values = LAWS[name]
    constants = constants_array(dict(zip(SEVEN, values, strict=True)))
    together, single, told, seconds = [], [], [], []
    for seed in range(draws):
        runs = grid.runs(constants, noise, seed)
        start = time.process_time()
        (found,) = fit(runs, FitConfig(two_step=two_step))
        samples = bootstrap(found, 200, seed)
        ends = intervals(found, samples)["all"]
        seconds.append(time.process_time() - start)
        alone = intervals(found, samples, together=False)["all"]
        for inside, of in ((together, ends), (single, alone)):
            inside.append([of[k].low <= v <= of[k].high for k, v in zip(SEVEN, values, strict=True)])
        told.append([ends[k].identified for k in SEVEN])
    all_in, each_in, told_of = np.array(together), np.array(single), np.array(told)
    cells = [
        name + (", two steps" if two_step else ""),
        f"{100 * noise:g} %",
        str(len(runs)),
        f"{all_in.all(1).mean():.2f}",
        f"{all_in.mean(0).min():.2f}",
        f"{each_in.all(1).mean():.2f}",
        f"{each_in.mean(0).min():.2f} to {each_in.mean(0).max():.2f}",
        f"{told_of.mean():.2f}",
        f"{np.mean(seconds):.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=50)
    parser.add_argument("--noise", type=float, nargs="+", default=[0.005, 0.02])
    arguments = parser.parse_args()
    print(
        "| planted law | noise | runs | all 7 in, reported | worst constant | all 7 in, single | each, single | ",
        end="",
    )
    print("identified | fit, s |\n|---|---|---|---|---|---|---|---|---|", flush=True)
    for name in LAWS:
        for noise in arguments.noise:
            print(row(name, noise, arguments.draws, two_step=False), flush=True)
    print(row("R_D 31, text", arguments.noise[0], arguments.draws, two_step=True), flush=True)


if __name__ == "__main__":
    main()
