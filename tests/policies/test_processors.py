"""LeRobot's commands override the normalisation steps of a saved pipeline; ours take that and change nothing."""

import pytest
import torch
from lerobot.processor import PolicyProcessorPipeline

from anyorder.policies.processor_anyorder import normalizer_processor, unnormalizer_processor

STATISTICS = {"observation.state": {"mean": torch.tensor([5.0]), "std": torch.tensor([2.0])}}


@pytest.mark.parametrize("step", [normalizer_processor, unnormalizer_processor])
def test_what_lerobot_train_overrides_is_accepted_and_changes_nothing(step, tmp_path):
    PolicyProcessorPipeline(steps=[step()], name="policy_preprocessor").save_pretrained(tmp_path)
    # As `lerobot-train` does when it resumes, or starts from a saved policy on another dataset.
    overrides = {step.__name__: {"features": {}, "norm_map": {"STATE": "MEAN_STD"}, "stats": STATISTICS}}
    loaded = PolicyProcessorPipeline.from_pretrained(
        tmp_path, config_filename="policy_preprocessor.json", overrides=overrides
    )
    batch = {"observation.state": torch.tensor([[7.0]]), "action": torch.tensor([[1.0]])}
    after = loaded(batch)
    for name, value in batch.items():
        assert torch.equal(after[name], value)


def test_without_such_a_step_lerobot_refuses(tmp_path):
    PolicyProcessorPipeline(steps=[], name="policy_preprocessor").save_pretrained(tmp_path)
    with pytest.raises(KeyError, match="normalizer_processor"):
        PolicyProcessorPipeline.from_pretrained(
            tmp_path, config_filename="policy_preprocessor.json", overrides={"normalizer_processor": {}}
        )
