"""The settings of a command out of declared defaults, choices and the words that were typed; Hydra puts them together.

``configs/<verb>.yaml`` names the choices; all else comes from the dataclass of the verb.
"""

import importlib.resources
import re
from pathlib import Path
from typing import Any, NamedTuple

from hydra import compose as hydra_compose
from hydra import initialize
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError, safe_load

from anyorder.errors import ConfigError, bad_value, did_you_mean
from anyorder.files import Words
from anyorder.settings.plain import to_plain
from anyorder.settings.text import REQUIRED, defaults, rows

GROUPS = {"factorization": "factorizations", "tokenizer": "tokenizers", "env": "environments"}
"""The families whose members are chosen by name, and what the help calls them."""


class Slot(NamedTuple):
    """A place in a verb's settings that is filled by choosing from a group.

    Attributes:
        key: what Hydra calls it: the group, and the place if it has another name, as ``env@rollout.env``.
        default: the choice where none is made.
        optional: whether it may stay empty.
    """

    key: str
    default: str | None
    optional: bool

    @property
    def group(self) -> str:
        """The group to choose from."""
        return self.key.partition("@")[0]

    @property
    def place(self) -> str:
        """The dotted name of the setting it fills."""
        return self.key.rpartition("@")[2]


def yaml_of(verb: str) -> str:
    """Return the text of a verb's YAML: examples, and the list of its choices."""
    return (importlib.resources.files("anyorder.configs") / f"{verb}.yaml").read_text()


def examples(verb: str) -> list[str]:
    """Return the lines at the head of a verb's YAML: what the verb does, and commands to copy."""
    header = yaml_of(verb).partition("defaults:")[0]
    return [line.removeprefix("# ").removeprefix("#") for line in header.strip().splitlines()]


def slots(verb: str) -> list[Slot]:
    """Return the choices that a verb offers.

    >>> slots("record")
    [Slot(key='env', default='so101_lift', optional=False)]
    >>> [slot.place for slot in slots("train")]
    ['factorization', 'tokenizer', 'rollout.env']
    """
    found = []
    for entry in safe_load(yaml_of(verb))["defaults"]:
        if isinstance(entry, dict):
            ((key, default),) = entry.items()
            found.append(Slot(key.removeprefix("optional "), default, key.startswith("optional ")))
    return found


def chosen(verb: str) -> dict[str, str]:
    """Return what a verb chooses where nothing is said, by the setting it fills."""
    return {slot.place: slot.default or "null" for slot in slots(verb)}


def compose(verb: str, kind: type[Any], overrides: list[str]) -> dict[str, Any]:
    """Return the settings of a verb as nested dicts: declared defaults, choices, and what was typed.

    Args:
        verb: the command.
        kind: the dataclass of its settings.
        overrides: words as ``key=value``.

    Raises:
        ConfigError: an unknown key or choice, or an override that cannot be read.
    """
    for word in overrides:
        if "=" not in word:
            needed = [row.path for row in rows(kind) if row.default == REQUIRED]
            example = f", as {needed[0]}={word}" if len(needed) == 1 else ""
            raise ConfigError("argument", word, f"key=value{example} (see `anyorder {verb} --help`)")
    # What is empty by default, as {}, takes any keys below it.
    empty = [row.path for row in rows(kind) if row.default == {} and not row.group]
    free = tuple(f"{name}{end}" for name in empty for end in (".", "="))
    overrides = [f"++{word}" if word.startswith(free) else word for word in overrides]
    offered = slots(verb)
    if groups_of(verb):
        register_groups()
    # A group whose choice lies elsewhere, as env@rollout.env, is chosen by that place too.
    places = {slot.place: slot.key for slot in offered}
    overrides = [f"{places.get(key, key)}={value}" for key, _, value in (w.partition("=") for w in overrides)]
    check_once(overrides)
    overrides = [register_study(word) for word in overrides]
    check_optional(offered, overrides)
    # Empty is what a group that may be empty is by default; Hydra takes no null for a choice.
    overrides = [w for w in overrides if w not in [f"{slot.key}=null" for slot in offered if slot.optional]]
    node = {"defaults": safe_load(yaml_of(verb))["defaults"], **defaults(kind)}
    ConfigStore.instance().store(name=verb, node=node)
    with initialize(config_path=None, version_base="1.3"):
        try:
            config = hydra_compose(verb, overrides=overrides)
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            choices = [w for w in overrides if w.partition("=")[0] in [slot.key for slot in offered]]
            try:
                known = hydra_compose(verb, overrides=choices)
            except (HydraException, ValueError):  # the choice itself is wrong
                known = hydra_compose(verb)
            keys = flat_keys(OmegaConf.to_container(known))
            raise ConfigError(readable(str(error), overrides, keys)) from error
        try:
            plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        except OmegaConfBaseException as error:
            missing = str(error).rsplit(":", 1)[-1].strip().splitlines()[0]
            meaning = next((row.meaning for row in rows(kind) if row.path == missing), "").rstrip(".")
            allowed = f"a value, as {missing}=... ({meaning or 'it has no default'}; see `anyorder {verb} --help`)"
            raise ConfigError(missing, None, allowed) from error
    return {str(key): value for key, value in plain.items()}


def check_once(overrides: list[str]) -> None:
    """Refuse a setting that has two values: Hydra would take the last without a word.

    Raises:
        ConfigError: names it.

    >>> check_once(["steps=3", "seed=1", "++steps=4"])
    Traceback (most recent call last):
    anyorder.errors.ConfigError: steps: '3' and '4' given, allowed: one value
    """
    given: dict[str, str] = {}
    for word in overrides:
        key, _, value = word.lstrip("+").partition("=")
        if given.setdefault(key, value) != value:
            raise ConfigError(key.rpartition("@")[2], Words(f"{given[key]!r} and {value!r}"), "one value")


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


def groups_of(verb: str) -> list[str]:
    """Return the groups that a verb chooses from: registering them imports torch, which takes seconds.

    >>> groups_of("convert"), groups_of("train")
    ([], ['factorization', 'tokenizer', 'env'])
    """
    chosen = {slot.group for slot in slots(verb)}
    return [name for name in GROUPS if name in chosen]


def register_groups() -> None:
    """Offer every factorization, tokenizer and environment as a Hydra choice, with its defaults; once each."""
    store = ConfigStore.instance()
    stored = {(group, file) for group in (*GROUPS, "study") for file in store.repo.get(group, ())}
    for group, family in families().items():
        for kind in family.choices.values():
            for name, options in kind.presets().items():
                if (group, f"{name}.yaml") not in stored:
                    store.store(group=group, name=name, node=to_plain(kind(**options)))
    for file in (importlib.resources.files("anyorder.configs") / "studies").iterdir():
        if file.name.endswith(".yaml") and ("study", file.name) not in stored:
            name = file.name.removesuffix(".yaml")
            node: Any = OmegaConf.create(file.read_text())
            store.store(group="study", name=name, node={"study": name, **node}, package="_global_")


def families() -> dict[str, Any]:
    """Return the family of each group."""
    from anyorder.envs import EnvConfig
    from anyorder.factorization import FactorizationConfig
    from anyorder.tokenizers import TokenizerConfig

    return {"factorization": FactorizationConfig, "tokenizer": TokenizerConfig, "env": EnvConfig}


def check_optional(offered: list[Slot], overrides: list[str]) -> None:
    """Refuse an unknown choice of a group that may be empty: Hydra would leave it out without a word."""
    groups = {slot.key: slot for slot in offered if slot.optional}
    for word in overrides:
        key, _, value = word.partition("=")
        names = group_names(groups[key].group) if key in groups else [value]
        if value not in (*names, "null"):
            raise ConfigError(groups[key].place, value, ", ".join(names) + did_you_mean(value, names))


def register_study(word: str) -> str:
    """Offer the file of ``study=FILE.yaml`` as a choice; returns the word that chooses it, others as they are.

    Raises:
        ConfigError: no such file, or it is not YAML.
    """
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
    return sorted(name.removesuffix(".yaml") for name in ConfigStore.instance().list(group))


def group_lines(group: str) -> list[str]:
    """Return one line per choice of a group with its settings; a family of many says itself what stands for all."""
    store = ConfigStore.instance()
    lines = []
    for name in group_names(group):
        node: Any = OmegaConf.to_container(store.load(f"{group}/{name}.yaml").node)
        shown = " ".join(f"{k}={v}" for k, v in node.items() if k != "type" and not isinstance(v, list))
        lines.append(families()[group].choices[node["type"]].in_short() or f"{name:<22}{shown}")
    return [f"  {line}" for line in dict.fromkeys(lines)]


def flat_keys(plain: Any, path: str = "") -> list[str]:
    """Return the dotted names of all settings."""
    keys = []
    for key, value in plain.items():
        keys.append(f"{path}{key}")
        if isinstance(value, dict):
            keys += flat_keys(value, f"{path}{key}.")
    return keys
