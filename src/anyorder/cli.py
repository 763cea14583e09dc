"""The command line: ``anyorder <verb> key=value ...``. It and ``cluster`` alone know Hydra."""

import contextlib
import importlib
import os
import re
import sys
import traceback
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anyorder import __version__
from anyorder.errors import ConfigError, UserError, bad_value, did_you_mean, system_failure
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
    "demo": "all of it in minutes: record, train four factorizations, roll out, compare",
}
GROUPS = {"factorization": "factorizations", "tokenizer": "tokenizers", "env": "environments"}
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
    with interruptible(
        lambda: f"{command}: interrupted; {command.again()}", arguments is None
    ) as interruption:
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


def settings(verb: str, overrides: list[str]) -> Any:
    """Return the verb's settings, defaults overridden, as its checked dataclass."""
    from anyorder.settings import from_plain

    # `run`'s annotation names the dataclass, so a verb is one module and nothing else.
    run = importlib.import_module(f"anyorder.commands.{verb}").run
    return from_plain(typing.get_type_hints(run)["config"], compose(verb, overrides))


def compose(verb: str, overrides: list[str]) -> dict[str, Any]:
    """Return ``configs/<verb>.yaml`` with its groups and the overrides, as nested dicts.

    Raises:
        ConfigError: an unknown key or choice, or an override that cannot be read.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_module
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for word in overrides:
        if "=" not in word:
            raise ConfigError("argument", word, f"key=value (see `anyorder {verb} --help`)")
    # What is empty by default, as {}, takes any keys below it.
    text = (configs() / f"{verb}.yaml").read_text()
    free = tuple(f"{name}{end}" for name in empty_keys(text) for end in (".", "="))
    overrides = [f"++{word}" if word.startswith(free) else word for word in overrides]
    if groups_of(text):
        register_groups()
    defaults = defaults_list(text)
    choices = [key for key, _, _ in defaults]
    # A group whose choice lies elsewhere, as env@rollout.env, is chosen by that place too.
    places = {key.partition("@")[2]: key for key in choices if "@" in key}
    overrides = [f"{places.get(key, key)}={value}" for key, _, value in (w.partition("=") for w in overrides)]
    overrides = [register_study(word) for word in overrides]
    check_optional(defaults, overrides)
    # Empty is what a group that may be empty is by default; Hydra takes no null for a choice.
    optional = [f"{key}=null" for key, _, empty in defaults if empty]
    overrides = [word for word in overrides if word not in optional]
    with initialize_config_module("anyorder.configs", version_base="1.3"):
        try:
            config = hydra_compose(verb, overrides=overrides)
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            chosen = [word for word in overrides if word.partition("=")[0] in choices]
            try:
                known = hydra_compose(verb, overrides=chosen)
            except (HydraException, ValueError):  # the choice itself is wrong
                known = hydra_compose(verb)
            keys = flat_keys(OmegaConf.to_container(known))
            raise ConfigError(readable(str(error), overrides, keys)) from error
        try:
            plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        except OmegaConfBaseException as error:
            missing = str(error).rsplit(":", 1)[-1].strip().splitlines()[0]
            allowed = f"a value, as {missing}=... (see `anyorder {verb} --help`)"
            raise ConfigError(missing, None, allowed) from error
    return {str(key): value for key, value in plain.items()}


def empty_keys(text: str) -> list[str]:
    """Return the dotted names of the settings of a verb's YAML that are ``{}`` by default.

    >>> empty_keys("videos: {}\\ndataset:\\n  root: null\\n  rename: {}     # other names")
    ['videos', 'dataset.rename']
    """
    found, above = [], ""
    for indent, name, empty in re.findall(r"^( *)(\w+):( \{\})?", text, re.MULTILINE):
        above = above if indent else f"{name}."
        found += [f"{above if indent else ''}{name}"] if empty else []
    return found


def readable(message: str, overrides: list[str], keys: list[str]) -> str:
    """Turn Hydra's message into one line: which key, what was given, what is allowed."""
    choice = re.search(r"Could not (?:find|load) '([\w@.-]+)/([^']+)'", message)
    if choice:
        group, given = choice.groups()
        names = group_names(group.split("@")[0])
        return bad_value(group, given, ", ".join(names) + did_you_mean(given, names))
    key = re.search(r"Could not override '([^']+)'", message)
    if key:
        name = key.group(1)
        given = next((word.split("=", 1)[1] for word in overrides if word.startswith(f"{name}=")), "")
        above, _, last = name.rpartition(".")
        beside = [k for k in keys if k.rpartition(".")[0] == above]
        near = did_you_mean(last, [k.rpartition(".")[2] for k in beside])  # what is above is the same for all
        close = did_you_mean(name, beside or keys) if near or not beside else ""
        others = beside or [k for k in keys if "." not in k]
        allowed = f"a known key{close}" if close else f"one of {', '.join(others)}"
        return bad_value(name, given, allowed)
    return bad_value("arguments", " ".join(overrides), f"key=value ({' '.join(message.split())[:160]})")


def configs() -> Any:
    """Return the folder of the YAML files."""
    # Imported late, like all that is slow: before `main` runs, Ctrl-C is a traceback.
    import importlib.resources

    return importlib.resources.files("anyorder.configs")


def groups_of(text: str) -> list[str]:
    """Return the groups that a verb's YAML chooses from: registering them imports torch, which takes seconds.

    >>> groups_of("defaults: [_self_]\\nenv: null"), groups_of("defaults:\\n  - factorization: autoregressive")
    ([], ['factorization'])
    """
    chosen = {group for _, group, _ in defaults_list(text)}
    return [name for name in GROUPS if name in chosen]


def defaults_list(text: str) -> list[tuple[str, str, bool]]:
    """Return the choices in a verb's YAML: what overrides each, its group, and whether it may be empty.

    >>> defaults_list("defaults:\\n  - _self_\\n  - optional env@rollout.env: null")
    [('env@rollout.env', 'env', True)]
    """
    found = re.findall(r"^  - (optional )?((\w+)(?:@[\w.]+)?):", text, re.MULTILINE)
    return [(key, group, bool(optional)) for optional, key, group in found]


def register_groups() -> None:
    """Offer every factorization, tokenizer and environment as a Hydra choice, with its defaults; once each."""
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    from anyorder.envs import EnvConfig
    from anyorder.factorization import FactorizationConfig
    from anyorder.settings import to_plain
    from anyorder.tokenizers import TokenizerConfig

    store = ConfigStore.instance()
    stored = {(group, file) for group in (*GROUPS, "study") for file in store.repo.get(group, ())}
    families: list[tuple[str, Any]] = [("factorization", FactorizationConfig), ("tokenizer", TokenizerConfig)]
    for group, family in families:
        for name, member in family.choices.items():
            if (group, f"{name}.yaml") not in stored:
                store.store(group=group, name=name, node=to_plain(member()))
    for file in (configs() / "studies").iterdir():
        if file.name.endswith(".yaml") and ("study", file.name) not in stored:
            name = file.name.removesuffix(".yaml")
            node: Any = OmegaConf.create(file.read_text())
            store.store(group="study", name=name, node={"study": name, **node}, package="_global_")
    for kind in EnvConfig.choices.values():
        for name, options in kind.presets().items():
            if ("env", f"{name}.yaml") not in stored:
                store.store(group="env", name=name, node=to_plain(kind(**options)))


def check_optional(defaults: list[tuple[str, str, bool]], overrides: list[str]) -> None:
    """Refuse an unknown choice of a group that may be empty: Hydra would leave it out without a word."""
    groups = {key: group for key, group, optional in defaults if optional}
    for word in overrides:
        key, _, value = word.partition("=")
        names = group_names(groups[key]) if key in groups else [value]
        if value not in (*names, "null"):
            place = key.rpartition("@")[2]
            raise ConfigError(place, value, ", ".join(names) + did_you_mean(value, names))


def register_study(word: str) -> str:
    """Offer the file of ``study=FILE.yaml`` as a choice; returns the word that chooses it, others as they are.

    Raises:
        ConfigError: no such file, or it is not YAML.
    """
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError  # type: ignore[import-untyped]

    key, _, value = word.partition("=")
    if key != "study" or not value.endswith((".yaml", ".yml")):
        return word
    path = Path(value)
    if not path.is_file():
        raise ConfigError("study", value, f"an existing file, or {', '.join(group_names('study'))}")
    try:
        node: Any = OmegaConf.load(path)
        OmegaConf.update(node, "study", path.stem)
    except (OmegaConfBaseException, YAMLError, AttributeError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ConfigError("study", value, f"a YAML file of settings ({reason})") from error
    ConfigStore.instance().store(group="study", name=f"file_{path.stem}", node=node, package="_global_")
    return f"study=file_{path.stem}"


def group_names(group: str) -> list[str]:
    """Return the choices of a group."""
    from hydra.core.config_store import ConfigStore

    return sorted(name.removesuffix(".yaml") for name in ConfigStore.instance().list(group))


def flat_keys(plain: Any, path: str = "") -> list[str]:
    """Return the dotted names of all settings."""
    keys = []
    for key, value in plain.items():
        keys.append(f"{path}{key}")
        if isinstance(value, dict):
            keys += flat_keys(value, f"{path}{key}.")
    return keys


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
    """Return the text of ``anyorder <verb> --help``: the annotated defaults, and the choices of each group."""
    text = (configs() / f"{verb}.yaml").read_text()
    header, _, body = text.partition("defaults:")
    lines = [f"anyorder {verb} key=value ...", ""]
    lines += [line.removeprefix("# ").removeprefix("#") for line in header.strip().splitlines()]
    lines += ["", "Settings and their defaults:", "", *without_defaults_list(body)]
    chosen = groups_of(body)
    if chosen:
        register_groups()
    for group in chosen:
        lines += ["", f"{GROUPS[group].capitalize()} ({group}=NAME):", *group_lines(group)]
    return "\n".join(lines)


def without_defaults_list(body: str) -> list[str]:
    """Return the settings below a YAML file's defaults list, the choices of groups first."""
    lines = body.strip("\n").splitlines()
    listed = [line for line in lines if line.startswith("  - ")]
    rest = lines[len(listed) :]
    chosen = [re.sub(r"^  - (optional )?(env@)?", "", line) for line in listed if "_self_" not in line]
    return [line for line in [*chosen, *rest] if line.strip()]


def group_lines(group: str) -> list[str]:
    """Return one line per choice with its settings, families of many names in short."""
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    store = ConfigStore.instance()
    lines = []
    metaworld = []
    for name in group_names(group):
        node: Any = OmegaConf.to_container(store.load(f"{group}/{name}.yaml").node)
        if node.get("type") == "metaworld":
            metaworld.append(name)
            continue
        shown = " ".join(f"{k}={v}" for k, v in node.items() if k != "type" and not isinstance(v, list))
        lines.append(f"  {name:<22}{shown}")
    if metaworld:
        lines.append(f"  {metaworld[0]} ... {metaworld[-1]}: the {len(metaworld)} tasks of Meta-World")
    return lines


if __name__ == "__main__":
    sys.exit(main())
