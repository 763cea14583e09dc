"""Bad input inside LeRobot's commands: one line and exit status 2 instead of a traceback."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import draccus

from anyorder.errors import CheckpointError, DatasetError, UserError

USAGE_ERROR = 2
OURS = "anyorder"
MAKES_DATASETS = ("lerobot.datasets.factory", "make_dataset")
BUILDS_SETTINGS = ("draccus.parsers.decoding", "decode_dataclass")
READS_POLICIES = ("lerobot.configs.policies", "from_pretrained")


def install() -> None:
    """Let this package's ``UserError`` end one of LeRobot's commands with its one line; others stay as they are.

    Only where the program that runs is one of LeRobot's commands: a script of yours keeps its tracebacks.
    """
    command = lerobot_command()
    if command is None:
        return
    earlier = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        found = user_error(error) or unreadable_dataset(error)
        found = found or unreadable_policy(error) or missing_policy(error)
        if found is None:
            earlier(kind, error, trace)
        else:
            leave(command, found)

    sys.excepthook = hook
    parse = draccus.parse

    def parse_words(*args: Any, **kwargs: Any) -> Any:
        # LeRobot prints what draccus says and exits: "could not decode", without the line of the setting.
        with one_line():
            return parse(*args, **kwargs)

    draccus.parse = parse_words


def lerobot_command() -> str | None:
    """Return the name of the LeRobot command that runs, None in another program."""
    name = Path(sys.argv[0]).name
    return name if name.startswith("lerobot") else None


@contextmanager
def one_line() -> Iterator[None]:
    """Do as the hook does where LeRobot's commands catch what is raised and lose its message.

    They go on when a plugin cannot be imported, and of settings they only say that they could not be read.
    """
    try:
        yield
    except Exception as error:
        command, found = lerobot_command(), user_error(error)
        if command is None or found is None:
            raise
        leave(command, found)


def user_error(error: BaseException | None) -> UserError | None:
    """Return the ``UserError`` that ``error`` is or was raised from: draccus wraps what a config raises.

    It names the field as the command line does, as ``policy.encoder.vision.width``.
    """
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__
    if error is None or not error.names_field:
        return error
    mounted = place(error)
    return type(error)(f"{mounted}.{error}") if mounted else error


def place(error: BaseException) -> str:
    """Return where the settings that raised ``error`` are mounted, empty where they are all there are.

    Draccus knows it while it builds them, and tells it to nobody: it is read off the stack.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    paths = [
        frame.f_locals["path"]
        for frame in frames
        if (frame.f_globals["__name__"], frame.f_code.co_name) == BUILDS_SETTINGS
    ]
    return ".".join(paths[-1]) if paths else ""


def unreadable_dataset(error: BaseException) -> UserError | None:
    """Return what is wrong with the ``--dataset.root`` of this package's policy, if LeRobot failed to open it.

    Only its failure tells: to LeRobot, a folder that is not there is one to download the dataset into. Which folder it
    was is read off the stack.
    """
    if not isinstance(error, Exception):
        return None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if (frame.f_globals["__name__"], frame.f_code.co_name) == MAKES_DATASETS:
            root, policy = frame.f_locals["cfg"].dataset.root, frame.f_locals["cfg"].policy
            if root is not None and policy is not None and policy.type == OURS:
                return wrong_folder(Path(root), error) or unfit_for_lerobot(Path(root), error)
    return None


def missing_policy(error: BaseException) -> UserError | None:
    """Return what is wrong with a ``--policy.path`` at which LeRobot found no policy; None if it found one.

    A folder above the policy's, as that of a run, names the policy's. What is no folder LeRobot takes for a hub's name.
    """
    from anyorder.policies.saved import asking_for_policy

    if not isinstance(error, Exception):
        return None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        reads = (frame.f_globals["__name__"], frame.f_code.co_name) == READS_POLICIES
        if not reads or frame.f_locals.get("config_file") is not None:
            continue
        given = Path(str(frame.f_locals["pretrained_name_or_path"]))
        for folder in (given / "pretrained_model", given / "checkpoints" / "last" / "pretrained_model"):
            if (folder / "config.json").is_file():
                return CheckpointError("policy.path", str(given), str(folder))
        try:
            with asking_for_policy("policy.path", str(given)):
                raise error
        except UserError as found:
            return found
        except Exception:  # not what a path causes: it keeps its traceback
            return None
    return None


def unreadable_policy(error: BaseException | None) -> UserError | None:
    """Return what is wrong with the ``config.json`` of this package's policy, if LeRobot failed to read one.

    Ours is a folder that lists its digest, as LeRobot's own do not.
    """
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if (frame.f_globals["__name__"], frame.f_code.co_name) == READS_POLICIES:
                return wrong_policy(Path(frame.f_locals["model_id"]))
        error = error.__cause__ or error.__context__
    return None


def wrong_policy(folder: Path) -> UserError | None:
    """Return why ``folder`` holds no policy of this package; None if it does, or holds another."""
    from anyorder.policies.saved import CONFIG, read_config
    from anyorder.sums import check_sums, read_sums

    try:
        if CONFIG not in read_sums(folder):
            return None
        check_sums(folder, [CONFIG], CheckpointError)
        read_config(folder)
    except UserError as found:
        return found
    return None


def wrong_folder(root: Path, error: Exception) -> UserError | None:
    """Return why ``root`` is no dataset; None if it is one. ``error`` is LeRobot's."""
    from anyorder.datasets.read.folder import read_info

    try:
        read_info(root)
    except DatasetError as found:
        if (root / "meta" / "info.json").is_file():
            return found
        reason = " ".join(str(error).split())[:160]
        return DatasetError(f"{found}, or dataset.repo_id with its name on the hub ({reason})")
    return None


def unfit_for_lerobot(root: Path, error: Exception) -> UserError | None:
    """Return what LeRobot cannot do with a dataset that this package reads; None if that is not known.

    A camera has no statistics, or the numbers of episodes have gaps. ``error`` is LeRobot's.
    """
    from anyorder.datasets.read.folder import missing_numbers, read_columns, read_info

    try:
        info = read_info(root)
        numbers = read_columns(info, ["episode_index"], partial=True)["episode_index"]
    except DatasetError as found:
        return found
    if isinstance(error, KeyError) and error.args[0] in info.cameras:
        allowed = f"those of {error.args[0]}, or --dataset.use_imagenet_stats=false (this policy needs neither)"
        return DatasetError(f"statistics in {root / 'meta' / 'stats.json'}", None, allowed)
    gaps = missing_numbers([-1, *numbers.tolist()])
    if gaps and len(set(numbers.tolist())) == info.total_episodes:
        allowed = "none for LeRobot's reader (`anyorder train` reads such a dataset)"
        return DatasetError(f"gaps in the episode numbers of {root}", gaps, allowed)
    return None


def leave(command: str, error: UserError) -> NoReturn:
    """Print the one line of ``error`` and end the process with status 2."""
    print(f"{command}: {' '.join(str(error).split())}", file=sys.stderr)
    # Raised inside an exception hook, too, this sets the process's exit status.
    sys.exit(USAGE_ERROR)
