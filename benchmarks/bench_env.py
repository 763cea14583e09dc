"""Speed of the SO-101 environments as Markdown tables: control steps, expert demonstrations, camera frames.

Rates are per second of processor time of one core, so that other work on the machine matters little.
"""

import argparse
import datetime
import os
import platform
import time
from collections.abc import Callable

import mujoco
import numpy as np

from anyorder.envs.so101 import So101Config
from anyorder.errors import EnvError

TASKS = ("lift", "push", "pick_place", "stack", "either")


def rate(run_once: Callable[[], int], seconds: float) -> float:
    """Return how many units ``run_once`` does per second, run until ``seconds`` of processor time are spent."""
    done, start_s = 0, time.process_time()
    while (spent_s := time.process_time() - start_s) < seconds:
        done += run_once()
    return done / spent_s


def steps_per_s(task: str, moving: bool, seconds: float) -> float:
    env = So101Config(task).build()
    env.action_space.seed(0)
    observation, _ = env.reset(seed=0)
    # A target kept for ten steps moves the arm about; fresh ones every step would only make it tremble.
    targets = [env.action_space.sample() if moving else observation["agent_pos"] for _ in range(15)]

    def episode() -> int:
        env.reset()
        for steps in range(1, 151):
            _, _, terminated, truncated, _ = env.step(targets[steps % 15])
            if terminated or truncated:
                break
        return steps

    return rate(episode, seconds)


def demos(task: str, seconds: float) -> tuple[float, float, float]:
    """Return demonstrations per second, success rate and mean length in steps."""
    config = So101Config(task)
    env, expert = config.build(), config.expert()
    lengths, successes = [], []

    def episode() -> int:
        seed = len(lengths)
        observation, _ = env.reset(seed=seed)
        expert.reset(env, seed)
        steps, over, info = 0, False, {}
        while not over:
            observation, _, terminated, truncated, info = env.step(expert.act(env, observation))
            steps, over = steps + 1, terminated or truncated
        lengths.append(steps)
        successes.append(info["is_success"])
        return 1

    return rate(episode, seconds), float(np.mean(successes)), float(np.mean(lengths))


def frames_per_s(camera: str, size: int, seconds: float) -> float:
    env = So101Config("stack", cameras=[camera], image_width=size, image_height=size).build()
    env.reset(seed=0)

    def frame() -> int:
        env.unwrapped._observe()
        return 1

    try:
        return rate(frame, seconds)
    finally:
        env.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="processor seconds per measurement")
    parser.add_argument("--size", type=int, default=96, help="width and height of camera frames in pixels")
    parser.add_argument("--no-cameras", action="store_true", help="leave rendering out")
    args = parser.parse_args()

    print(f"{datetime.date.today()}, {cpu_name()}, {os.cpu_count()} cores, MuJoCo {mujoco.__version__}\n")
    print("| task | steps/s, still | steps/s, moving | demos/s | expert success | steps a demo |")
    print("|---|---|---|---|---|---|")
    for task in TASKS:
        still, moving = (steps_per_s(task, moving, args.seconds) for moving in (False, True))
        demos_s, success, length = demos(task, args.seconds)
        print(f"| {task} | {still:,.0f} | {moving:,.0f} | {demos_s:.1f} | {success:.0%} | {length:.0f} |")
    if args.no_cameras:
        return
    print(f"\n| camera | frames/s at {args.size}x{args.size} |\n|---|---|")
    for camera in ("front", "wrist"):
        try:
            print(f"| {camera} | {frames_per_s(camera, args.size, args.seconds):,.0f} |")
        except EnvError as error:
            print(f"| {camera} | {error} |")


def cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
