"""What is not finite never becomes an action: observations, weights, buffers, sizes."""

import json
import math

import pytest
import torch
from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature
from safetensors.torch import load_file, save_file

from anyorder.errors import CheckpointError, ConfigError, DivergedError, NotFiniteError
from anyorder.factorization import FactorizationConfig
from anyorder.networks import EncoderConfig, TransformerConfig, VisionConfig
from anyorder.policies import AnyOrderConfig, AnyOrderPolicy
from anyorder.policies.fitting import fit
from anyorder.policies.normalizer import LARGEST
from anyorder.sums import SUMS
from anyorder.tokenizers import TokenizerConfig
from anyorder.training.checkpoint import load_policy

HORIZON, JOINTS = 4, ["pan", "lift", "grip"]
SHAPES = {
    "observation.state": (3,),
    "observation.environment_state": (2,),
    "observation.images.top": (3, 16, 16),
    "observation.points": (5, 3),
}
KINDS = {"state": FeatureType.STATE, "environment_state": FeatureType.ENV, "points": FeatureType.STATE}
QUICK = {"registers": {"steps": 5, "width": 16}, "fast": {"vocab_size": 200}, "dct": {"scale": 4.0}}
FAMILIES = {name: kind().build() for name, kind in FactorizationConfig.choices.items()}
PAIRS = [
    (name, tokenizer)
    for name, family in FAMILIES.items()
    for tokenizer in (sorted(TokenizerConfig.choices) if family.discrete else ["fast"])
    if not family.needs_levels or tokenizer in ("dct", "multiscale_vq")
]
every_pair = pytest.mark.parametrize(("family", "tokenizer"), PAIRS)


def observation(rows=3, moments=None, names=SHAPES):
    generator = torch.Generator().manual_seed(1)
    lead = (rows,) if moments is None else (rows, moments)
    return {name: torch.rand(*lead, *SHAPES[name], generator=generator) for name in names}


def actions(count=60):
    steps = torch.linspace(0, 3, HORIZON).view(1, -1, 1)
    return 40 * torch.sin(steps + torch.rand(count, 1, 3, generator=torch.Generator().manual_seed(0)) * 6)


def make(family="regression", tokenizer="fast", features=("observation.state",), **settings):
    config = AnyOrderConfig(
        input_features={
            name: PolicyFeature(KINDS.get(name.split(".")[1], FeatureType.VISUAL), SHAPES[name]) for name in features
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (3,))},
        device="cpu",
        chunk_size=HORIZON,
        n_action_steps=2,
        factorization=family,
        tokenizer=tokenizer,
        tokenizer_options=QUICK.get(tokenizer, {}),
        network=TransformerConfig(16, 1, 2),
        encoder=EncoderConfig(2, 16, vision=VisionConfig(width=16, features=8, keypoints=4)),
        push_to_hub=False,
        **settings,
    )
    seen = observation(60, names=features)
    statistics = {
        name: {
            "mean": x.mean(0),
            "std": x.std(0),
            "min": x.amin(0),
            "max": x.amax(0),
            "q01": x.amin(0),
            "q99": x.amax(0),
        }
        for name, x in seen.items()
        if x.dim() < 4
    }
    statistics = {name: {k: v.numpy() for k, v in found.items()} for name, found in statistics.items()}
    torch.manual_seed(0)
    names = {"observation.state": JOINTS, "action": JOINTS}
    return AnyOrderPolicy(config, fit(config, statistics, {**seen, "action": actions()}, 30.0, names=names))


def save(policy, folder):
    """Save as an older version did, without digests: what they would say of any change is not asked here."""
    policy.save_pretrained(folder)
    (folder / SUMS).unlink(missing_ok=True)


def spoilt(batch, name, value, place):
    changed = {key: values.clone() for key, values in batch.items()}
    changed[name][place] = value
    return changed


@every_pair
def test_no_family_acts_on_an_observation_that_is_not_finite(family, tokenizer):
    policy = make(family, tokenizer)
    for value in (math.nan, math.inf, -math.inf):
        batch = spoilt(observation(names=["observation.state"]), "observation.state", value, (1, 2))
        said = rf"observation\.state: {value} in row 1, grip \(1 of 9 values is not finite\)"
        for act in (policy.predict_action_chunk, policy.select_action):
            with pytest.raises(NotFiniteError, match=said) as error:
                act(batch)
            assert error.value.rows == (1,)
        with pytest.raises(NotFiniteError, match=said):
            policy({**batch, "action": actions(3)})
        with pytest.raises(NotFiniteError, match=r"action: .* in row 0, 3, lift"):
            policy(
                {
                    **observation(names=["observation.state"]),
                    **spoilt({"action": actions(3)}, "action", value, (0, 3, 1)),
                }
            )
    # What was refused is forgotten, and nothing is left in the queue.
    assert torch.isfinite(policy.select_action(observation(names=["observation.state"]))).all()


@pytest.mark.parametrize("moments", [1, 2])
@pytest.mark.parametrize("name", SHAPES)
def test_every_kind_of_observation_is_looked_at(name, moments):
    policy = make(features=list(SHAPES), n_obs_steps=moments)
    batch = observation(2, None if moments == 1 else moments)
    assert torch.isfinite(policy.predict_action_chunk(batch)).all()
    for place in (0, -1):
        wrong = spoilt(batch, name, math.nan, (1, *[place] * (batch[name].dim() - 1)))
        with pytest.raises(NotFiniteError, match=f"{name}: nan in row 1, .*is not finite"):
            policy.predict_action_chunk(wrong)
        with pytest.raises(NotFiniteError, match=name):
            policy({**wrong, "action": actions(2)})


def test_a_frame_that_is_not_finite_is_refused_while_actions_are_queued_and_leaves_no_trace_in_the_history():
    policy, twin = (make(n_obs_steps=2, features=["observation.state"]) for _ in range(2))
    good = [observation(1, names=["observation.state"]), {"observation.state": torch.zeros(1, 3)}]
    seen = []
    for step in range(4):
        with pytest.raises(NotFiniteError):
            policy.select_action(spoilt(good[step % 2], "observation.state", math.nan, (0, 0)))
        seen.append((policy.select_action(good[step % 2]), twin.select_action(good[step % 2])))
    assert all(torch.equal(one, other) for one, other in seen)


def test_numbers_too_large_for_single_precision_are_refused_too():
    policy = make(normalization_mapping={**AnyOrderConfig(device="cpu").normalization_mapping})
    with pytest.raises(NotFiniteError, match=r"observation\.state: inf in row 0, pan"):
        policy.predict_action_chunk({"observation.state": torch.tensor([[1e300, 0, 0]], dtype=torch.float64)})


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_that_gives_no_numbers_gives_no_action(family, temperature, value):
    policy = make(family, "dct", temperature=temperature)
    with torch.no_grad():
        policy.network.trunk.norm.weight.fill_(value)
    for act in (policy.select_action, policy.predict_action_chunk):
        with pytest.raises(NotFiniteError, match=r"predicted chunk|network's answer"):
            act(observation(names=["observation.state"]))
    with pytest.raises((DivergedError, NotFiniteError)):
        policy({**observation(names=["observation.state"]), "action": actions(3)})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_encoder_that_gives_no_numbers_gives_no_action(value):
    policy = make("masked_diffusion")
    with torch.no_grad():
        policy.encoder.mlp[-1].bias.fill_(value)
    with pytest.raises(NotFiniteError, match="encoded observation"):
        policy.predict_action_chunk(observation(names=["observation.state"]))


def test_a_policy_with_a_weight_that_is_not_finite_is_not_saved(tmp_path):
    policy = make()
    policy.save_pretrained(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    with torch.no_grad():
        policy.network.trunk.norm.weight[3] = math.nan
    with pytest.raises(CheckpointError, match=r"network\.trunk\.norm\.weight: nan given, allowed: finite"):
        policy.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_values_that_pass_through_have_no_limit_and_are_saved_and_loaded(tmp_path):
    mapping = {"STATE": "IDENTITY", "ENV": "IDENTITY", "ACTION": "IDENTITY", "VISUAL": "IDENTITY"}
    policy = make(normalization_mapping={key: NormalizationMode[value] for key, value in mapping.items()})
    assert policy.normalizer("observation.state").limit == math.inf
    policy.save_pretrained(tmp_path)
    batch = observation(names=["observation.state"])
    assert torch.equal(load_policy(tmp_path, "cpu").predict_action_chunk(batch), policy.predict_action_chunk(batch))


def spoils(values):
    """Return values of every kind that a buffer or weight may be damaged to."""
    if values.dtype is torch.int32:  # the bits of float32
        floats = torch.tensor([math.nan, math.inf, -math.inf, 3e38, -3e38, 0.0, -1.0]).view(torch.int32)
        return [values.clone().fill_(bits) for bits in floats.tolist()]
    if not values.is_floating_point():
        return [values.clone().fill_(number) for number in (-1, 0, 2**40)]
    made = [values.clone().fill_(number) for number in (math.nan, math.inf, -1.0, 0.0, 3e38, -3e38)]
    one = values.clone()
    one.view(-1)[-1] = math.nan
    return [*made, one, values.to(torch.int64), values.double().fill_(1e300)]


def acted(folder):
    """Return the actions of a saved policy, or the one line in which it is refused."""
    try:
        policy = AnyOrderPolicy.from_pretrained(folder)
        return policy.predict_action_chunk(observation(names=["observation.state"])), None
    except (CheckpointError, NotFiniteError) as error:
        return None, str(error)


@pytest.mark.parametrize(
    ("family", "tokenizer"),
    [("regression", "fast"), *(("autoregressive", name) for name in sorted(TokenizerConfig.choices))],
)
def test_a_damaged_buffer_is_refused_by_name_or_gives_finite_actions_within_bounds(family, tokenizer, tmp_path):
    policy = make(family, tokenizer)
    save(policy, tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    buffers = {name for name, _ in policy.named_buffers()} & saved.keys()
    refused = 0
    # Of the many tables of a learnt code some will do.
    buffers = {name for i, name in enumerate(sorted(buffers)) if "_weight" not in name or i % 3 == 0}
    for name in [*sorted(buffers), "network.trunk.norm.weight"]:
        for values in spoils(saved[name]):
            save_file({**saved, name: values}, tmp_path / "model.safetensors")
            found, said = acted(tmp_path)
            refused += said is not None and name.split(".")[0] in said
            assert found is None or (found.abs() <= LARGEST).all(), name
    assert refused >= 4 * len(buffers)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"network": {"depth": 1_000_000}}, "sizes in the checkpoint's settings"),
        ({"network": {"depth": 2}}, r"network\.trunk\.blocks\.1\..* in its settings alone"),
        ({"network": {"width": 10**12, "heads": 1}}, r"network\.width"),
        ({"network": {"width": 10**6, "heads": 1}}, "shape of"),
        ({"network": {"width": 32}}, "shape of"),
        ({"encoder": {"depth": 10**6}}, "sizes in the checkpoint's settings"),
        ({"encoder": {"hidden": 10**9}}, r"encoder\.hidden"),
        ({"encoder": {"tokens": 10**6}}, "shape of encoder"),
        ({"chunk_size": 10**9, "n_action_steps": 1}, "chunk_size: 1000000000 given"),
        ({"chunk_size": 10**6}, "shape of"),
        ({"n_obs_steps": 10**6}, "shape of encoder"),
        ({"n_obs_steps": 2**70}, "n_obs_steps"),
        ({"input_features": {"observation.state": {"type": "STATE", "shape": [10**9]}}}, "shape of obs"),
        ({"output_features": {"action": {"type": "ACTION", "shape": [4]}}}, "shape of action"),
        ({"text_size": -1}, "text_size"),
        ({"fps": 0}, "fps: 0"),
        ({"fps": -30.0}, "fps: -30"),
        ({"fps": math.nan}, "NaN is no number"),
        ({"guidance": math.inf, "context_dropout": 0.1}, "Infinity is no number"),
        ({"temperature": 1e-320}, "temperature"),
        ({"nucleus": 0.0}, "nucleus"),
        ({"observation_noise": -1.0}, "observation_noise"),
        ({"context_dropout": 1.0}, "context_dropout"),
        ({"network": {"dropout": 1.5}}, "dropout"),
        ({"optimizer_lr": -1.0}, "optimizer_lr"),
    ],
)
def test_settings_that_the_weights_do_not_have_are_refused_before_anything_is_built(change, said, tmp_path):
    save(make(), tmp_path)
    path = tmp_path / "config.json"
    saved = json.loads(path.read_text())
    for key, value in change.items():
        saved[key] = {**saved[key], **value} if key in ("network", "encoder") else value
    path.write_text(json.dumps(saved))
    with pytest.raises(CheckpointError, match=said) as error:
        load_policy(tmp_path, "cpu")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "tokenizer"),
    [
        ({"merges": 4000}, "fast"),
        ({"length": 10**6}, "fast"),
        ({"bins": 10**6}, "bins"),
        ({"stages": 10**6}, "residual_vq"),
        ({"stages": 10**12}, "residual_vq"),
        ({"groups": 10**6}, "multiscale_vq"),
        ({"registers": 10**9}, "registers"),
        ({"points": 10**6}, "bspline"),
        ({"frequencies": 10**6}, "dct"),
        ({"high": 10**6}, "dct"),
        ({"scale": math.nan}, "dct"),
    ],
)
def test_a_tokenizer_of_another_size_is_refused_before_it_is_built(change, tokenizer, tmp_path):
    save(make("autoregressive", tokenizer), tmp_path)
    path = tmp_path / "config.json"
    saved = json.loads(path.read_text())
    path.write_text(json.dumps({**saved, "tokenizer_spec": {**saved["tokenizer_spec"], **change}}))
    with pytest.raises(CheckpointError) as error:
        load_policy(tmp_path, "cpu")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("fps", 0.0), ("fps", math.nan), ("guidance", math.inf), ("temperature", 1e-320), ("chunk_size", True)],
)
def test_a_constructor_raises_and_does_not_end_the_process(name, value, monkeypatch):
    monkeypatch.setattr("sys.argv", ["lerobot-train"])
    with pytest.raises(ConfigError, match=name):
        AnyOrderConfig(device="cpu", **{name: value})
