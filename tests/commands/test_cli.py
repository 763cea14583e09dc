"""The command line: defaults, help, and one clear line with exit status 2 for whatever a user gets wrong."""

import dataclasses
import json
import re
import shutil
import typing
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
from safetensors.torch import load_file, save_file

from anyorder import cli, composition
from anyorder.commands import demo
from anyorder.envs import EnvConfig
from anyorder.errors import DatasetError
from anyorder.reports.rollouts import read_summary
from anyorder.settings.text import rows
from anyorder.sums import SUMS
from anyorder.training.run_folder import last_checkpoint
from tests.plugin.saved import policy, save

ROOT = Path(__file__).parents[2]

TINY = [
    "network={width: 16, depth: 1, heads: 2}",
    "encoder={tokens: 2, hidden: 16}",
    "steps=2",
    "batch_size=4",
    "eval_samples=1",
    "device=cpu",
    "progress=false",
    "dataset.validation_fraction=0.2",
]


@pytest.fixture(scope="module")
def trained(lift_root, tmp_path_factory):
    run = tmp_path_factory.mktemp("trained") / "run"
    assert cli.main(["train", f"dataset.root={lift_root}", f"output_dir={run}", *TINY]) == 0
    return run


def fails(capsys, *words):
    """Run a command that must fail; return its one line."""
    status = cli.main(list(words))
    captured = capsys.readouterr()
    assert status == 2
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    return captured.err


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_teaches(verb, capsys):
    assert cli.main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"anyorder {verb} " in text
    assert "Settings and their defaults" in text
    assert "defaults:" not in text.replace("Settings and their defaults:", "")


def test_overview_names_every_verb(capsys):
    assert cli.main([]) == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in cli.VERBS)


def test_texts_count_the_policies_of_the_demo_right():
    """Where a text says how many policies the demo trains, that is how many it does; the overview leaves it to it."""
    pages = [ROOT / "README.md", ROOT / "Makefile", *sorted((ROOT / "docs").glob("*.md"))]
    texts = [*(page.read_text() for page in pages), *(cli.explanation(verb) for verb in cli.VERBS), cli.overview()]
    numbers = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    said = re.findall(rf"\b[Tt]rains?\s+({'|'.join(numbers)})\s+(?:factorizations|policies)", " ".join(texts))
    assert len(said) >= 2
    assert {numbers.index(word) + 2 for word in said} == {len(demo.POLICIES)}


@pytest.mark.parametrize("verb", cli.VERBS)
def test_composed_and_declared_agree_on_every_field_and_default(verb):
    """Every field that a verb's dataclass leads to, at any depth, is a key with its default, and can be set."""
    kind = cli.kind_of(verb)
    optional = {slot.place for slot in composition.slots(verb) if slot.optional}
    required = [f.name for f in dataclasses.fields(kind) if not has_default(f)]
    groups = {"env": "env=so101_lift", "tokenizer": "tokenizer=fast", "dataset": "dataset.root=x"}
    words = [groups.get(name, f"{name}=x") for name in required]
    composed = cli.compose(verb, words)
    assert set(composed) <= {field.name for field in dataclasses.fields(kind)}
    written, default = {}, {}
    for name, value, wanted in leaves(kind, composed):
        if name in optional:
            continue
        assert value is not MISSING, f"{verb} lacks {name}"
        written[name] = value
        if wanted is not MISSING and name not in DIFFER:
            default[name] = wanted
    assert {name: written[name] for name in default} == default
    given = [f"{name}={json.dumps(value)}" for name, value in written.items() if f"{name}=x" not in words]
    assert cli.compose(verb, [*words, *given]) == composed


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_setting_says_what_it_means(verb):
    for row in rows(cli.kind_of(verb)):
        assert row.meaning.endswith("."), row.path


MISSING = dataclasses.MISSING
DIFFER = ("dataset.root", "policies", "eval_freq", "save_freq")
"""Settings whose default is not the dataclass's own: it is required there, or depends on others."""


def leaves(kind, plain, default=MISSING, path=""):
    """Yield (dotted name, value in ``plain``, the dataclass's default) of every field that holds no dataclass."""
    for field in dataclasses.fields(kind):
        hint = typing.get_type_hints(kind)[field.name]
        name, value = f"{path}{field.name}", plain.get(field.name, MISSING)
        own = getattr(default, field.name, MISSING) if default is not MISSING else default_of(field)
        inner = [a for a in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(a)]
        if not inner or not isinstance(value, dict) or typing.get_origin(hint) is dict:
            yield name, value, list(own) if isinstance(own, tuple) else own
            continue
        # The key of a member of a family: which one, and its own fields.
        member = inner[0].choices[value["type"]] if "type" in value else inner[0]
        assert set(value) - {"type"} <= {f.name for f in dataclasses.fields(member)}
        yield from leaves(member, value, own if isinstance(own, member) else MISSING, f"{name}.")


def default_of(field):
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default


def has_default(field):
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def test_the_environment_of_rollouts_along_the_way_is_chosen_by_its_place():
    for key in ("rollout.env", "env@rollout.env"):
        assert cli.settings("train", ["dataset.root=x", f"{key}=so101_lift"]).rollout.env.task == "lift"
    assert cli.settings("train", ["dataset.root=x", "rollout.env=null"]).rollout.env is None


def test_every_environment_preset_builds_its_settings():
    composition.register_groups()
    ours = [kind for kind in EnvConfig.choices.values() if kind.__module__.startswith("anyorder.")]
    shipped = [name for kind in ours for name in kind.presets()]
    assert set(shipped) <= set(composition.group_names("env"))
    assert len(shipped) == 5 + 2 + 50 + 1
    # To offer a choice is to build it; some are read back.
    for name in [*shipped[:8], *shipped[8::10]]:
        assert cli.settings("record", [f"env={name}", "root=x"]).env.task in name


def test_train_rollout_and_report_work_together(trained, lift_root, tmp_path, capsys):
    output = tmp_path / "rollout"
    words = ["rollout", f"policy={trained}", "episodes=2", "videos=0", f"output={output}", "device=cpu"]
    assert cli.main(words) == 0
    summary = json.loads((output / "summary.json").read_text())
    assert summary["episodes"] == 2
    assert cli.main(["report", f"runs=[{trained}]", f"output={tmp_path / 'page.html'}"]) == 0
    assert "<html" in (tmp_path / "page.html").read_text()
    assert cli.main(["tokenize", f"dataset.root={lift_root}", f"output={tmp_path / 'tokens.md'}"]) == 0
    assert "shoulder_pan.pos" in (tmp_path / "tokens.md").read_text()


def test_a_rollout_of_a_checkpoint_that_cannot_be_written_to_ends_well(trained, tmp_path, capsys):
    run = shutil.copytree(trained, tmp_path / "run", symlinks=True)
    card = last_checkpoint(run) / "pretrained_model" / "README.md"
    card.unlink()
    (card / "in the way").mkdir(parents=True)
    words = ["rollout", f"policy={run}", "episodes=1", "videos=0", "device=cpu"]
    assert cli.main(words) == 0
    assert "warning: model card not written" in capsys.readouterr().err
    assert (run / "rollout" / "summary.json").is_file()


@pytest.mark.parametrize("failure", [PermissionError(13, "Permission denied", "README.md"), DatasetError("no")])
def test_a_rollout_is_kept_where_the_card_of_its_policy_cannot_be_written(
    failure, trained, tmp_path, monkeypatch, capsys
):
    def refuse(*_):
        raise failure

    monkeypatch.setattr("anyorder.reports.model_card.write_model_card", refuse)
    output = tmp_path / "rollout"
    words = ["rollout", f"policy={trained}", "episodes=1", "videos=0", f"output={output}", "device=cpu"]
    assert cli.main(words) == 0
    captured = capsys.readouterr()
    assert captured.err == f"anyorder rollout: warning: model card not written: {failure}\n"
    assert "success" in captured.out
    assert (output / "summary.json").is_file()


def test_a_rollout_counts_what_was_not_finite(trained, tmp_path, monkeypatch, capsys):
    from anyorder.envs.so101.env import So101Env

    step = So101Env.step

    def spoilt(self, action):
        observation, *rest = step(self, action)
        observation["agent_pos"][2] = float("nan")
        return (observation, *rest)

    monkeypatch.setattr(So101Env, "step", spoilt)
    output = tmp_path / "rollout"
    words = ["rollout", f"policy={trained}", "episodes=2", "videos=0", f"output={output}", "device=cpu"]
    assert cli.main(words) == 0
    assert "2 ended as failed: numbers not finite" in " ".join(capsys.readouterr().out.split())
    lines = [json.loads(line) for line in (output / "episodes.jsonl").read_text().splitlines()]
    said = "step 1: observation not finite: agent_pos, dimensions [2]"
    assert [(line["success"], line["length"], line["reason"]) for line in lines] == [(False, 1, said)] * 2


def test_a_policy_that_refuses_the_first_observations_is_counted_all_the_same(trained, tmp_path, monkeypatch, capsys):
    from anyorder.envs.so101.env import So101Env

    reset = So101Env.reset

    def spoilt(self, **options):
        observation, info = reset(self, **options)
        observation["agent_pos"][2] = float("nan")
        return observation, info

    monkeypatch.setattr(So101Env, "reset", spoilt)
    output = tmp_path / "rollout"
    words = ["rollout", f"policy={trained}", "episodes=2", "videos=0", f"output={output}", "device=cpu"]
    assert cli.main(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "2 ended as failed: numbers not finite, chunk latency unknown" in said
    summary = read_summary(output)
    assert (summary["not_finite"], summary["successes"]) == (2, 0)
    assert (summary["chunk_latency_ms"], summary["single_chunk_latency_ms"]) == (None, None)


def test_a_rollout_decides_over_samples_and_blends_chunks(tmp_path, capsys):
    folder = save(policy("autoregressive"), tmp_path / "policy")
    words = ["rollout", f"policy={folder}", f"output={tmp_path / 'out'}", "env=so101_lift"]
    said = fails(capsys, *words, "decode.rule=best")
    assert "decode.rule: 'best' given, allowed: sample, mean, medoid, cluster" in said
    said = fails(capsys, *words, "decode.sample=3")
    assert "decode.sample: 3 given" in said
    assert "did you mean 'samples'?" in said
    said = fails(capsys, *words, "blend=3")
    assert "blend: 3 given, allowed: 0 to chunk_size - n_action_steps = 2" in said
    assert "decode: 'mean' given, allowed: settings by name" in fails(capsys, *words, "decode=mean")
    assert not (tmp_path / "out").exists()
    asked = cli.settings("rollout", [*words[1:], "decode.rule=mean", "decode.samples=8", "blend=2"])
    assert (asked.decode, asked.blend) == ({"rule": "mean", "samples": 8}, 2)


def test_a_policy_that_draws_no_tokens_takes_no_temperature(tmp_path, capsys):
    folder = save(policy("regression"), tmp_path / "policy")
    words = ["rollout", f"policy={folder}", f"output={tmp_path / 'out'}", "env=so101_lift"]
    said = fails(capsys, *words, "temperature=0.5")
    assert "temperature: 0.5 given, allowed: 0, as regression draws no tokens" in said
    assert not (tmp_path / "out").exists()


def test_a_policy_of_nan_is_not_rolled_out(trained, tmp_path, capsys):
    run = shutil.copytree(trained, tmp_path / "run", symlinks=True)
    path = last_checkpoint(run) / "pretrained_model" / "model.safetensors"
    saved = load_file(path)
    saved["network.trunk.norm.weight"][0] = float("nan")
    save_file(saved, path)
    (path.parent / SUMS).unlink(missing_ok=True)
    said = fails(capsys, "rollout", f"policy={run}", f"output={tmp_path / 'out'}", "videos=0")
    assert "network.trunk.norm.weight: nan given, allowed: finite numbers" in said
    assert not (tmp_path / "out").exists()


def test_tokenize_writes_a_page_with_the_curve(lift_root, tmp_path, monkeypatch, capsys):
    # The sweep of the chosen tokenizer alone: all of them take minutes.
    monkeypatch.setattr("anyorder.tokenizers.rate_distortion.all_sweeps", lambda chosen: chosen.sweep())
    words = ["tokenize", f"dataset.root={lift_root}", "tokenizer=bins", "curve=true"]
    assert cli.main([*words, f"output={tmp_path / 'new' / 'tokens.html'}"]) == 0
    page = (tmp_path / "new" / "tokens.html").read_text()
    assert page.count("<svg") == 2
    assert "shoulder_pan.pos" in page
    assert cli.main([*words, f"output={tmp_path / 'tokens.md'}"]) == 0
    written = (tmp_path / "tokens.md").read_text()
    assert "| bins | bins=1024 |" in written
    assert re.search(r"\| overlap rate of neighbours \| 0\.\d{3} \|", written)
    assert re.search(r"\| jitter entropy, nats per value \| \d\.\d{3} \|", written)
    assert "bins=1024" in capsys.readouterr().out


def test_lerobot_style_dashes_are_understood(lift_root, tmp_path):
    words = ["train", f"--dataset.root={lift_root}", f"--output_dir={tmp_path / 'run'}", *TINY]
    assert cli.main(words) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], "did you mean 'train'"),
        (["train", "stesp=3"], "did you mean 'steps'"),
        (["train", "network.widht=3"], "did you mean 'network.width'"),
        (["train", "factorization=autoregresive"], "did you mean 'autoregressive'"),
        (
            ["train", "factorization=regression", "factorization.k=4"],
            "allowed: one of factorization.type, factorization.norm",
        ),
        (["train", "optimizer.momentum=4"], "allowed: one of optimizer.lr, "),
        (["train", "factorization=null"], "arguments: 'factorization=null' given"),
        (["train", "rollout.env=so101_lfit"], "rollout.env: 'so101_lfit' given"),
        (["train", "dataset.root=x", "factorization=masked_diffusion", "factorization.sampler=best"], "ancestral"),
        (["train", "steps=many", "dataset.root=x"], "an integer"),
        (["train", "steps=0", "dataset.root=x"], "an integer >= 1"),
        (["train", "optimizer.lr=-1", "dataset.root=x"], "a number > 0"),
        (["train", "optimizer.betas=0.9", "dataset.root=x"], "a list"),
        (["train", "resume=perhaps", "dataset.root=x"], "true or false"),
        (["train", "steps"], "key=value"),
        (["train"], "dataset.root"),
        (["train", "dataset.root=/no/such/folder"], "/no/such/folder"),
        (["record", "env=so101_lift"], "root"),
        (["record", "env=so101_lfit", "root=x"], "did you mean 'so101_lift'"),
        (["record", "env.servo=strong", "root=x"], ": env.servo: 'strong' given, allowed: soft, stiff"),
        (["record", "episodes=0", "root=x"], "an integer >= 1"),
        (["train", "dataset.root=x", "device=foo"], "device: 'foo' given, allowed: "),
        (["train", "dataset.root=x", "device=cpu:0"], "device: 'cpu:0' given, allowed: "),
        (["train", "dataset.root=x", "device=cuda:99"], "device: 'cuda:99' given, allowed: "),
        (["rollout", "policy=/no/such/run", "device=foo"], "device: 'foo' given, allowed: "),
        (
            ["train", "dataset.root=x", "wandb.mode=foo"],
            "wandb.mode: 'foo' given, allowed: online, offline, disabled, shared",
        ),
        (["train", "dataset.root=x", "rollout.freq=5"], "rollout.freq: 5 given, allowed: 0, but with"),
        (
            ["train", "dataset.root=x", "factorization=gaussian_diffusion", "temperature=0.7"],
            "temperature: 0.7 given, allowed: 0, as gaussian_diffusion draws no tokens",
        ),
        (
            ["train", "dataset.root=x", "factorization=analog_bits", "nucleus=0.5"],
            "nucleus: 0.5 given, allowed: 1, as analog_bits draws no tokens",
        ),
        (
            ["train", "dataset.root=x", "batch_size=1000000000"],
            "batch_size: 1000000000 given, allowed: an integer >= 1 and <= 65536",
        ),
        (["rollout", "policy=/no/such/run"], "/no/such/run"),
        (["tokenize", "dataset.root=x", "output=x.pdf"], ".html or .md"),
        (["tokenize", "dataset.root=x", "curve=yes"], "true or false"),
        (["report"], "runs"),
        (["report", "runs=[x]", "output=page"], "output: 'page' given, allowed: a file whose name ends in .html"),
        (["report", "runs=[/no/such/run]", "output=/tmp/never.html"], "/no/such/run"),
        (["demo", "policies=[regresion]"], "did you mean 'regression'"),
    ],
)
def test_bad_words(words, said, capsys):
    assert said in fails(capsys, *words)


def damage_values(root, column, value):
    file = next((root / "data").rglob("*.parquet"))
    table = parquet.read_table(file)
    rows = table[column].to_pylist()
    rows[3] = [value, *rows[3][1:]]
    index = table.column_names.index(column)
    import pyarrow as pa

    table = table.set_column(index, table.schema.field(index), pa.array(rows, type=table.schema.field(index).type))
    parquet.write_table(table, file)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(lift_copy, tmp_path, capsys, value):
    damage_values(lift_copy, "action", value)
    line = fails(capsys, "train", f"dataset.root={lift_copy}", f"output_dir={tmp_path / 'run'}", *TINY)
    assert "action" in line
    assert not (tmp_path / "run").exists()


def test_a_truncated_parquet_file(lift_copy, tmp_path, capsys):
    file = next((lift_copy / "data").rglob("*.parquet"))
    file.write_bytes(file.read_bytes()[:-50])
    line = fails(capsys, "train", f"dataset.root={lift_copy}", f"output_dir={tmp_path / 'run'}", *TINY)
    assert file.name in line


def test_a_dimension_that_never_changes_is_harmless(lift_copy, tmp_path):
    file = next((lift_copy / "data").rglob("*.parquet"))
    for file in (lift_copy / "data").rglob("*.parquet"):
        table = parquet.read_table(file)
        import pyarrow as pa

        for column in ("action", "observation.state"):
            rows = [[1.5, *row[1:]] for row in table[column].to_pylist()]
            index = table.column_names.index(column)
            kind = table.schema.field(index)
            table = table.set_column(index, kind, pa.array(rows, type=kind.type))
        parquet.write_table(table, file)
    run = tmp_path / "run"
    assert cli.main(["train", f"dataset.root={lift_copy}", f"output_dir={run}", *TINY]) == 0
    assert json.loads((run / "data.json").read_text())["constant_dimensions"]["action"] == ["shoulder_pan.pos"]


def test_an_episode_shorter_than_a_chunk(lift_root, tmp_path, capsys):
    words = ["train", f"dataset.root={lift_root}", f"output_dir={tmp_path / 'run'}", "chunk_size=62", *TINY]
    assert "allow_short" in fails(capsys, *words)
    assert not (tmp_path / "run").exists()


def test_a_dataset_with_another_action_size_than_the_checkpoint(trained, lift_copy, tmp_path, capsys):
    run = shutil.copytree(trained, tmp_path / "run", symlinks=True)
    config = last_checkpoint(run) / "pretrained_model" / "config.json"
    saved = json.loads(config.read_text())
    saved["output_features"]["action"]["shape"] = [7]
    config.write_text(json.dumps(saved))
    (config.parent / SUMS).unlink()
    settings = json.loads((run / "train_config.json").read_text())
    words = [f"dataset.root={settings['dataset']['root']}", f"output_dir={run}", "resume=true", *TINY]
    assert "action" in fails(capsys, "train", *words)


def test_a_checkpoint_with_a_missing_file(trained, tmp_path, capsys):
    run = shutil.copytree(trained, tmp_path / "run", symlinks=True)
    (last_checkpoint(run) / "pretrained_model" / "model.safetensors").unlink()
    assert "model.safetensors" in fails(capsys, "rollout", f"policy={run}", f"output={tmp_path / 'out'}")
    assert not (tmp_path / "out").exists()


def test_an_environment_without_what_the_policy_needs(trained, tmp_path, capsys):
    words = ["rollout", f"policy={trained}", "env=so101_stack", f"output={tmp_path / 'out'}", "videos=0"]
    assert "environment_state" in fails(capsys, *words)
    assert not (tmp_path / "out").exists()


def test_output_that_exists(trained, lift_root, tmp_path, capsys):
    before = {p: p.stat().st_mtime_ns for p in trained.rglob("*")}
    assert "output_dir" in fails(capsys, "train", f"dataset.root={lift_root}", f"output_dir={trained}", *TINY)
    assert "root" in fails(capsys, "record", f"root={lift_root}")
    assert "output" in fails(capsys, "rollout", f"policy={trained}", f"output={trained}")
    page = tmp_path / "page.html"
    page.write_text("mine")
    assert "output" in fails(capsys, "report", f"runs=[{trained}]", f"output={page}")
    assert page.read_text() == "mine"
    page.rename(page.with_suffix(".md"))
    said = fails(capsys, "report", f"runs=[{trained}]", f"output={page}")
    assert "page.md' given, allowed: a name whose .md is free, too" in said
    assert page.with_suffix(".md").read_text() == "mine"
    assert not page.exists()
    other = tmp_path / "killed.html"
    assert cli.main(["report", f"runs=[{trained}]", f"output={other}"]) == 0
    other.unlink()  # as a kill between the two files leaves it
    assert cli.main(["report", f"runs=[{trained}]", f"output={other}"]) == 0
    assert {p: p.stat().st_mtime_ns for p in trained.rglob("*")} == before
