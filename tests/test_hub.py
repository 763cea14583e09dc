"""Whatever asking the hub raises is one line and status 2, in every command that takes a name on it."""

import httpx
import pytest
import requests
import transformers
from huggingface_hub import errors
from lerobot.configs import PreTrainedConfig
from lerobot.datasets.utils import BackwardCompatibilityError
from packaging.version import Version

from anyorder.errors import CheckpointError, ConfigError
from anyorder.networks.language import encode_text
from anyorder.policies.modeling_anyorder import AnyOrderPolicy
from tests.commands.test_cli import fails

ANSWER = httpx.Response(404, request=httpx.Request("GET", "https://huggingface.co/api/datasets/me/pickplace"))
UNREACHABLE = [
    httpx.ConnectError("[Errno -2] Name or service not known"),
    httpx.ReadTimeout(""),
    errors.LocalEntryNotFoundError("cannot be found in the disk cache"),
    errors.OfflineModeIsEnabled("offline mode is enabled"),
]
REFUSED = [
    errors.RepositoryNotFoundError("404 Client Error.\n\nRepository Not Found", response=ANSWER),
    errors.HfHubHTTPError("429 Too Many Requests", response=ANSWER),
    errors.HFValidationError("Repo id must use alphanumeric chars"),
    requests.ConnectionError("Max retries exceeded"),
    BackwardCompatibilityError("me/pickplace", Version("2.1")),
]
FAILURES = [*UNREACHABLE, *REFUSED]


def name_of(error):
    return type(error).__name__


def raising(error):
    def ask(*args, **options):
        raise error

    return ask


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Tells what LeRobot's dataset raises, with an empty cache."""
    monkeypatch.setattr("lerobot.utils.constants.HF_LEROBOT_HOME", tmp_path / "cache")
    return lambda error: monkeypatch.setattr("lerobot.datasets.lerobot_dataset.LeRobotDataset", raising(error))


@pytest.mark.parametrize("error", FAILURES, ids=name_of)
def test_a_dataset_that_the_hub_does_not_give_is_one_line(error, hub, tmp_path, capsys):
    hub(error)
    line = fails(capsys, "train", "dataset.repo_id=me/pickplace", "steps=5", f"output_dir={tmp_path / 'out'}")
    assert "dataset.repo_id: 'me/pickplace' given, allowed: a folder below" in line
    assert ("without network dataset.root=FOLDER" in line) == (error in UNREACHABLE)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["tokenize", "dataset.repo_id=me/pickplace"], "dataset.repo_id"),
        (["advise", "dataset=me/pickplace", "pilot=1", "minutes=1", "pilot_out={out}"], "dataset"),
        (["study", "run", "dataset.repo_id=me/pickplace", "study=small", "out={out}"], "dataset.repo_id"),
    ],
)
def test_every_command_that_takes_a_name_says_so(words, field, hub, tmp_path, capsys):
    hub(UNREACHABLE[0])
    line = fails(capsys, *[word.format(out=tmp_path / "out") for word in words])
    assert f"{field}: 'me/pickplace' given, allowed: " in line
    assert "no answer from it: [Errno -2] Name or service not known; without network " in line


@pytest.mark.parametrize("error", FAILURES[:-1], ids=name_of)
def test_a_policy_and_a_text_encoder_likewise(error, monkeypatch):
    monkeypatch.setattr(PreTrainedConfig, "from_pretrained", raising(error))
    with pytest.raises(CheckpointError, match="policy: 'me/lift' given, allowed: a pretrained_model folder") as found:
        AnyOrderPolicy.from_pretrained("me/lift")
    assert "\n" not in str(found.value)
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", raising(error))
    with pytest.raises(ConfigError, match=r"encoder\.text_model: 'me/words' given, allowed: a text encoder's folder"):
        encode_text("me/words", ["Lift."])
