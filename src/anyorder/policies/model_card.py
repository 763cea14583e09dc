"""The README.md of a policy on the hub: what it is, what it learnt from, how well it does; only what is known."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCard, ModelCardData

from anyorder.rollouts.statistics import wilson_interval
from anyorder.settings import TYPE_KEY

if TYPE_CHECKING:
    from anyorder.policies import AnyOrderPolicy

Facts = dict[str, Any]
"""What a card may say; ``model_card`` lists the names. What is not known is left out or None."""

CARD = "README.md"


def model_card(facts: Mapping[str, Any]) -> str:
    """Write a model card: a YAML header and Markdown.

    Args:
        facts: any of ``name``, ``repo_id``, ``license``, ``tags``, ``dataset`` (hub name), ``data`` (what it is called
            where it is not on the hub), ``factorization`` and ``tokenizer`` (the name under ``type``, and
            settings), ``chunk_size``, ``n_action_steps``, ``fps``, ``inputs`` and ``outputs`` (name ->
            shape), ``tasks``, ``params``, ``episodes``, ``minutes``, ``steps``, ``batch_size``, ``seed``, ``nll``
            (text with unit), ``validation_episodes``, ``rollout`` (``summary.json`` of a rollout).
    """
    known = {key: value for key, value in facts.items() if value not in (None, "", [], {})}
    tags = {
        "robotics",
        "lerobot",
        "anyorder",
        *known.get("tags", []),
        *filter(None, [known.get("factorization", {}).get(TYPE_KEY)]),
    }
    header = ModelCardData(
        license=known.get("license"),
        library_name="lerobot",
        pipeline_tag="robotics",
        tags=sorted(tags),
        model_name=known.get("name"),
        datasets=known.get("dataset"),
    )
    title = known.get("name") or f"anyorder: {known.get('factorization', {}).get(TYPE_KEY, 'policy')}"
    sections = [
        f"---\n{header.to_yaml()}\n---",
        f"# {title}",
        "A [LeRobot](https://github.com/huggingface/lerobot) policy of the plugin `lerobot_policy_anyorder`. Tokenizer "
        "and normalisation are inside `model.safetensors`.",
        table("Policy", policy_rows(known)),
        table("Training", training_rows(known)),
        table("Scores", score_rows(known)),
        usage(known),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def policy_rows(facts: Mapping[str, Any]) -> Facts:
    """Return the rows about the policy itself."""
    shapes = {
        word: ", ".join(f"`{name}` {list(shape)}" for name, shape in facts.get(kind, {}).items())
        for word, kind in (("reads", "inputs"), ("gives", "outputs"))
    }
    chunk = None
    if "chunk_size" in facts:
        chunk = f"{facts['chunk_size']} steps"
        chunk += f", of which {facts['n_action_steps']} are executed" if "n_action_steps" in facts else ""
    return {
        "factorization": named(facts, "factorization"),
        "tokenizer": named(facts, "tokenizer"),
        "parameters": f"{facts['params']:,}" if "params" in facts else None,
        "chunk": chunk,
        **shapes,
        "control rate": f"{facts['fps']:g} Hz" if "fps" in facts else None,
    }


def training_rows(facts: Mapping[str, Any]) -> Facts:
    """Return the rows about the data and the optimisation."""
    data = facts.get("dataset") or facts.get("data")
    samples = facts["steps"] * facts["batch_size"] if {"steps", "batch_size"} <= facts.keys() else None
    return {
        "dataset": f"`{data}`" if data else None,
        "demonstrations": facts.get("episodes"),
        "their length": f"{facts['minutes']:.1f} min" if "minutes" in facts else None,
        "tasks": "; ".join(facts.get("tasks", [])),
        "optimiser steps": f"{facts['steps']:,}" if "steps" in facts else None,
        "chunks seen": f"{samples:,} ({facts['batch_size']} a step)" if samples else None,
        "seed": facts.get("seed"),
    }


def score_rows(facts: Mapping[str, Any]) -> Facts:
    """Return the rows about likelihood and success."""
    held_out = facts.get("validation_episodes")
    where = f"validation NLL, {held_out} held-out demonstrations" if held_out else "validation NLL"
    rows: Facts = {where: facts.get("nll")}
    rollout = facts.get("rollout")
    if rollout:
        successes, episodes = rollout["successes"], rollout["episodes"]
        low, high = wilson_interval(successes, episodes)
        env = " ".join(str(part) for part in map(rollout["env"].get, (TYPE_KEY, "task")) if part)
        rows[f"success in `{env}`"] = (
            f"{successes}/{episodes} = {successes / episodes:.0%} (Wilson's 95 % interval {low:.0%} to {high:.0%})"
        )
        last = rollout["seed"] + episodes - 1
        conditions = [f"environment seeds {rollout['seed']} ... {last}"]
        for key, word in (("policy_seed", "policy seed"), ("temperature", "temperature")):
            if key in rollout:
                conditions.append(f"{word} {rollout[key]}")
        decode = rollout.get("decode", {})
        if decode.get("rule", "sample") != "sample":
            conditions.append(f"{decode['rule']} of {decode['samples']} samples at temperature {decode['temperature']}")
        if decode.get("point", "mode") != "mode":
            conditions.append(f"{decode['point']} of each token's law")
        if rollout.get("blend"):
            conditions.append(f"{rollout['blend']} steps of neighbouring chunks blended")
        rows["measured with"] = ", ".join([*conditions, f"{rollout['n_action_steps']} steps a chunk executed"])
    return rows


def usage(facts: Mapping[str, Any]) -> str:
    """Return how to run the policy; the environment is named where it is known."""
    path = facts.get("repo_id") or "<this folder or repository>"
    lines = ["## Use", "", "```", "pip install .     # in the folder of anyorder's source"]
    rollout = facts.get("rollout")
    if rollout:
        task = rollout["env"].get("task")
        choice = f"--env.type=anyorder_{rollout['env'][TYPE_KEY]}" + (f" --env.task={task}" if task else "")
        lines.append(f"lerobot-eval --policy.path={path} {choice} --seed={rollout['seed']}")
    return "\n".join([*lines, f"lerobot-rollout --policy.path={path} ...     # on a robot", "```"])


def named(facts: Mapping[str, Any], kind: str) -> str | None:
    """Write the choice of a family with its settings."""
    if kind not in facts:
        return None
    options = ", ".join(f"{key}={value}" for key, value in facts[kind].items() if key != TYPE_KEY)
    return f"`{facts[kind][TYPE_KEY]}`" + (f" ({options})" if options else "")


def table(title: str, rows: Mapping[str, Any]) -> str:
    """Write a section with one row for each value that is known; nothing if none is."""
    lines = [f"| {name} | {value} |" for name, value in rows.items() if value not in (None, "")]
    return "\n".join([f"## {title}", "", "| | |", "|---|---|", *lines]) if lines else ""


def config_facts(config: Mapping[str, Any]) -> Facts:
    """Return what ``config.json`` tells."""
    facts = {key: config.get(key) for key in ("factorization", "chunk_size", "n_action_steps", "fps", "tasks")}
    facts |= {key: config.get(key) for key in ("license", "tags", "repo_id")}
    if config.get("tokenizer_spec") is not None:
        facts["tokenizer"] = config.get("tokenizer")
    for kind in ("inputs", "outputs"):
        features = config.get(f"{kind[:-1]}_features") or {}
        facts[kind] = {name: list(feature["shape"]) for name, feature in features.items()}
    return facts


def policy_card(
    policy: "AnyOrderPolicy",
    dataset_repo_id: str | None,
    model_type: str,
    license: str | None,
    tags: list[str] | None,
    cfg: Any = None,
    dataset_meta: Any = None,
) -> ModelCard:
    """Return the card that LeRobot pushes with a policy; made to be ``AnyOrderPolicy.generate_model_card``."""
    import draccus

    facts = config_facts(draccus.encode(policy.config))
    facts |= {"dataset": dataset_repo_id, "license": license, "params": policy.trainable}
    facts["tags"] = [*(tags or []), model_type]
    facts["name"] = facts.get("repo_id")
    if cfg is not None:
        facts |= {"steps": cfg.steps, "batch_size": cfg.batch_size, "seed": cfg.seed}
    if dataset_meta is not None:
        seconds = dataset_meta.total_frames / dataset_meta.fps
        facts |= {"episodes": dataset_meta.total_episodes, "minutes": seconds / 60}
    return ModelCard(model_card(facts))
