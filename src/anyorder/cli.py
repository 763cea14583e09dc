"""The command line: ``anyorder <verb> key=value ...``. ``composition`` puts the settings together."""

import contextlib
import importlib
import os
import sys
import traceback
import typing
from collections.abc import Sequence
from typing import Any

from anyorder import __version__
from anyorder.errors import ConfigError, UserError, did_you_mean, system_failure
from anyorder.processes import Interruption, interruptible

VERBS = {
    "record": "demonstrations by a scripted expert, as a LeRobot dataset",
    "convert": "an older LeRobot dataset (v2.0, v2.1) to the version read here (v3)",
    "tokenize": "fit a tokenizer to a dataset and report what it costs and loses",
    "train": "train a policy on a dataset",
    "rollout": "run a trained policy in simulation and count its successes",
    "report": "one page that compares runs",
    "study": "run many small trainings, see where they stand, collect them into a table",
    "fit": "scaling laws of a table of runs: constants with intervals, critical compute",
    "advise": "which factorization to train on your data with your compute, by fitted laws",
    "demo": "all of it in minutes: record, train several factorizations, roll out, compare",
}
FIRST_WORD = {"study": "action"}
"""Verbs whose first word may be the value of a setting: ``anyorder study run``."""
USAGE_ERROR = 2
TRACEBACK = "ANYORDER_TRACEBACK"
"""Set in the environment, it shows where an error of the system or the user's came from."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status.

    That is 0, 2 after bad input or where the system refused something, as room on a disk, 130 after Ctrl-C and 143
    after SIGTERM. All but 0 print one line, what is wrong or how to go on.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = Command(words[0] if words else "help", words[1:])
    with interruptible(lambda: f"{command}: interrupted; {command.again()}", arguments is None) as interruption:
        try:
            command.run()
            sys.stdout.flush()
        except BaseException as error:
            return failed(command, error, interruption)
    return 0


def failed(command: "Command", error: BaseException, interruption: Interruption) -> int:
    """Say in one line how a command ended, and return its exit status; raise what is a fault of ours."""
    if interruption.signal is not None or isinstance(error, KeyboardInterrupt):
        # Whatever it was: libraries turn an interrupted import into errors of other types.
        return interruption.tell()
    if isinstance(error, UserError):
        line = str(error)
    elif (refused := system_failure(error)) is not None:
        line = f"{refused}; once that is mended, {command.again()} ({TRACEBACK}=1 shows where it came from)"
    else:
        raise error
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    print(f"{command}: {' '.join(line.split())}", file=sys.stderr)
    return USAGE_ERROR


class Command:
    """One command: a verb, its words and, once they are read, its settings."""

    def __init__(self, verb: str, words: list[str]) -> None:
        self.verb, self.words = verb, words
        self.settings: Any = None

    def __str__(self) -> str:
        return f"anyorder {self.verb}"

    def run(self) -> None:
        """Do what it says."""
        from rich.console import Console

        console = Console()
        verb, words = self.verb, self.words
        if verb in ("-h", "--help", "help"):
            console.print(overview(), highlight=False, markup=False)
            return
        if verb == "--version":
            console.print(__version__, highlight=False)
            return
        if verb not in VERBS:
            raise ConfigError("verb", verb, ", ".join(VERBS) + did_you_mean(verb, VERBS))
        if any(word in ("-h", "--help") for word in words):
            console.print(explanation(verb), highlight=False, markup=False, soft_wrap=True)
            return
        if verb in FIRST_WORD and words and "=" not in words[0]:
            words = [f"{FIRST_WORD[verb]}={words[0]}", *words[1:]]
        self.settings = settings(verb, [strip_dashes(word) for word in words])
        importlib.import_module(f"anyorder.commands.{verb}").run(self.settings, console)

    def again(self) -> str:
        """Return how to go on after the command was cut off: a verb's module knows, by ``again``, if it keeps work."""
        module = sys.modules.get(f"anyorder.commands.{self.verb}")
        say = getattr(module, "again", None)
        with contextlib.suppress(OSError, ValueError, KeyError):  # what is there may be damaged
            if self.settings is not None and say is not None:
                return f"the same command {say(self.settings)}"
        return "the same command begins again"


def kind_of(verb: str) -> type[Any]:
    """Return the dataclass of a verb's settings: the annotation of its ``run`` names it, so a verb is one module."""
    run = importlib.import_module(f"anyorder.commands.{verb}").run
    return typing.cast(type[Any], typing.get_type_hints(run)["config"])


def compose(verb: str, overrides: list[str]) -> dict[str, Any]:
    """Return a verb's settings, defaults overridden, as nested dicts."""
    # Imported late, like all that is slow: before `main` runs, Ctrl-C is a traceback.
    from anyorder import composition

    return composition.compose(verb, kind_of(verb), overrides)


def settings(verb: str, overrides: list[str]) -> Any:
    """Return a verb's settings, defaults overridden, as its checked dataclass."""
    from anyorder.settings import from_plain

    found = from_plain(kind_of(verb), compose(verb, overrides))
    found.check_given({key: value for key, _, value in (word.partition("=") for word in overrides)})
    return found


def strip_dashes(word: str) -> str:
    """Accept LeRobot's ``--key=value`` as ``key=value``.

    >>> strip_dashes("--dataset.root=data"), strip_dashes("steps=3")
    ('dataset.root=data', 'steps=3')
    """
    return word.removeprefix("--") if "=" in word else word


def overview() -> str:
    """Return the text of ``anyorder --help``."""
    lines = ["anyorder <verb> key=value ...      how should a policy factorise an action chunk?", ""]
    lines += [f"  {verb:<10}{text}" for verb, text in VERBS.items()]
    lines += ["", "anyorder <verb> --help shows examples and every setting.", "Start with: anyorder demo"]
    return "\n".join(lines)


def explanation(verb: str) -> str:
    """Return the text of ``anyorder <verb> --help``: examples, every setting, and the choices of each group."""
    from anyorder.composition import GROUPS, chosen, examples, group_lines, groups_of, register_groups
    from anyorder.settings.text import explained

    lines = [f"anyorder {verb} key=value ...", "", *examples(verb)]
    lines += ["", "Settings and their defaults:", "", *explained(kind_of(verb), chosen(verb))]
    groups = groups_of(verb)
    if groups:
        register_groups()
    for group in groups:
        lines += ["", f"{GROUPS[group].capitalize()} ({group}=NAME):", *group_lines(group)]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
