import pytest
import torch

from anyorder.errors import ConfigError
from anyorder.networks import EncoderConfig, ObservationEncoder, ObservationSpec, VisionConfig
from anyorder.networks.vision import SpatialSoftmax, VisionEncoder, crop, jitter
from anyorder.settings import from_plain

SPEC = ObservationSpec(
    vectors={"joints": 3},
    cameras={"front": (3, 33, 40), "wrist": (3, 33, 33)},
    clouds={"cloud": 6},
    tasks=["Lift.", "Push."],
    history=2,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def observation(rows=4, seed=0):
    g = generator(seed)
    return {
        "joints": torch.randn(rows, 2, 3, generator=g),
        "front": torch.rand(rows, 2, 3, 33, 40, generator=g),
        "wrist": torch.rand(rows, 2, 3, 33, 33, generator=g),
        "cloud": torch.randn(rows, 2, 20, 6, generator=g),
    }


def make(spec=SPEC, language="table", **vision):
    torch.manual_seed(0)
    settings = VisionConfig(width=16, features=8, keypoints=4, **vision)
    return ObservationEncoder(spec, 16, EncoderConfig(hidden=8, vision=settings, language=language)).eval()


def moved(encoder, name, rows=4, tasks=("Lift.",) * 4):
    """Which rows' context changes with one observation."""
    before = observation(rows)
    after = {**before, name: before[name].roll(1, 0)}
    return (encoder(before, tasks) - encoder(after, tasks)).flatten(1).abs().amax(1) > 1e-6


@pytest.mark.parametrize("backbone", ["conv", "resnet18", "vit"])
@pytest.mark.parametrize("pool", ["spatial_softmax", "average"])
def test_every_observation_is_read_by_every_backbone(backbone, pool):
    encoder = make(backbone=backbone, pool=pool)
    assert encoder(observation(), ["Lift."] * 4).shape == (4, 4, 16)
    for name in SPEC.names:
        assert moved(encoder, name).all()
    other = encoder(observation(), ["Push."] * 4)
    assert not torch.equal(other, encoder(observation(), ["Lift."] * 4))
    loss = encoder.train()(observation(), ["Lift.", "Push."] * 2, generator=generator()).square().sum()
    loss.backward()
    unused = {n for n, p in encoder.named_parameters() if p.grad is None and not n.startswith("missing")}
    assert not unused


def test_rows_do_not_depend_on_each_other():
    encoder = make()
    whole = encoder(observation(), ["Lift."] * 4)
    part = encoder({k: v[1:2] for k, v in observation().items()}, ["Lift."])
    torch.testing.assert_close(part, whole[1:2])


def test_bytes_and_fractions_are_the_same_picture():
    encoder = VisionEncoder(3, (24, 32), VisionConfig(width=16)).eval()
    pictures = torch.randint(256, (2, 1, 3, 24, 32), generator=generator(), dtype=torch.uint8)
    assert torch.equal(encoder(pictures), encoder(pictures.float() / 255))


def test_spatial_softmax_finds_the_place():
    pool = SpatialSoftmax(1, 1)
    with torch.no_grad():
        pool.to_keypoints.weight.fill_(1000.0)
    picture = torch.zeros(1, 1, 5, 9)
    picture[0, 0, 1, 6] = 1
    torch.testing.assert_close(pool(picture), torch.tensor([[-0.5, 0.5]]))  # (row, column) in [-1, 1]


def test_crops_are_windows_of_their_own_pictures_and_alike_over_time():
    pictures = torch.arange(6 * 7.0).view(6, 7).expand(50, 2, 1, 6, 7)
    windows = crop(pictures, (4, 5), generator())
    corners = windows[:, 0, 0, 0, 0]
    assert set(corners.tolist()) == {7.0 * row + column for row in range(3) for column in range(3)}
    assert torch.equal(windows[:, 0], windows[:, 1])
    steps = windows - corners.view(-1, 1, 1, 1, 1)
    assert (steps == steps[:1]).all()
    middle = crop(pictures, (4, 5), None)
    assert middle[0, 0, 0, 0, 0] == 8
    assert torch.equal(crop(pictures, (6, 7), generator()), pictures)


def test_jitter_keeps_grey_grey_and_is_seeded():
    grey = torch.rand(5, 1, 1, 8, 8, generator=generator()).expand(5, 1, 3, 8, 8)
    changed = jitter(grey, 0.4, generator(1))
    torch.testing.assert_close(changed[:, :, 0], changed[:, :, 2])
    assert (changed - grey).flatten(1).abs().amax(1).min() > 1e-3
    assert torch.equal(changed, jitter(grey, 0.4, generator(1)))
    assert changed.min() >= 0
    assert changed.max() <= 1


def test_augmentation_acts_in_training_only():
    encoder = make(crop=0.8, jitter=0.3)
    assert torch.equal(encoder(observation(), ["Lift."] * 4), encoder(observation(), ["Lift."] * 4))
    encoder.train()
    first, again, other = (encoder(observation(), ["Lift."] * 4, generator=generator(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_missing_camera_hides_its_picture_and_only_its():
    encoder = make(dropout=0.5)
    rows = torch.tensor([True, False, True, False])
    before = observation()
    after = {**before, "wrist": before["wrist"].roll(1, 0)}
    contexts = [encoder(o, ["Lift."] * 4, {"wrist": rows}) for o in (before, after)]
    changed = (contexts[0] - contexts[1]).flatten(1).abs().amax(1) > 1e-6
    assert torch.equal(changed, ~rows)


def test_shared_backbones_share():
    spec = ObservationSpec(cameras={"a": (3, 24, 24), "b": (3, 24, 24)})
    sizes = [sum(p.numel() for p in make(spec, "none", shared=shared).cameras.parameters()) for shared in (True, False)]
    assert sizes[1] == 2 * sizes[0]


def test_an_unknown_sentence_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"task: 'Lfit\.' given, allowed: Lift\. \| Push\..*did you mean"):
        make()(observation(), ["Lfit."] * 4)
    with pytest.raises(ConfigError, match="observation without"):
        make()(observation())


@pytest.fixture(scope="module")
def text_encoder(tmp_path_factory):
    """A tiny random text encoder in a folder, as transformers saves them."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("text_encoder")
    words = {"[PAD]": 0, "[UNK]": 1, "lift": 2, "push": 3, "the": 4, "cube": 5}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    size = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(words), **size)).save_pretrained(folder)
    return str(folder)


def test_a_text_encoder_reads_new_sentences(text_encoder):
    from anyorder.networks.language import text_size

    size = text_size(text_encoder)
    assert size == 12
    spec = ObservationSpec({"joints": 3}, tasks=["lift the cube", "push the cube"], text_size=size)
    config = EncoderConfig(hidden=8, language="text", text_model=text_encoder)
    encoder = ObservationEncoder(spec, 16, config).eval()
    encoder.load_pretrained()
    joints = {"joints": torch.zeros(2, 1, 3)}
    known, new = (encoder(joints, t) for t in (["lift the cube", "push the cube"], ["lift", "push"]))
    for rows in (known, new):
        assert not torch.allclose(rows[0], rows[1], atol=1e-6)
    # The sentences of the data travel along: no text encoder is needed for them, one is for others.
    copy = ObservationEncoder(spec, 16, EncoderConfig(hidden=8, language="text", text_model="nowhere"))
    copy.load_state_dict(encoder.state_dict())
    assert torch.equal(copy.eval()(joints, ["lift the cube", "push the cube"]), known)
    with pytest.raises(ConfigError, match=r"encoder\.text_model: 'nowhere'"):
        copy(joints, ["lift", "lift"])


@pytest.mark.parametrize(
    "settings",
    [{"backbone": "vgg"}, {"pool": "max"}, {"crop": 0.2}, {"resize": [96]}, {"width": 20}, {"pretrained": True}],
)
def test_bad_vision_settings_are_refused(settings):
    (name,) = settings
    with pytest.raises(ConfigError, match=rf"^encoder\.vision\.{name}: "):
        from_plain(EncoderConfig, {"vision": settings}, "encoder")
    with pytest.raises(ConfigError, match=rf"^{name}: "):
        VisionConfig(**settings)


def test_pictures_too_small_for_the_backbone_are_refused():
    with pytest.raises(ConfigError, match=r"resize: \[33, 40\].*larger than 64"):
        make(backbone="vit", patch=64)


def test_encoder_needs_an_observation():
    with pytest.raises(ConfigError, match="observation"):
        make(ObservationSpec(), "none")
