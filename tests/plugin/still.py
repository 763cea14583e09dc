"""A LeRobot policy as small as can be."""

from dataclasses import dataclass

import torch
from lerobot.configs import FeatureType, PolicyFeature, PreTrainedConfig
from lerobot.policies.pretrained import PreTrainedPolicy


@PreTrainedConfig.register_subclass("still")
@dataclass
class StillConfig(PreTrainedConfig):
    """Settings of ``StillPolicy``."""

    fps: float | None = None

    observation_delta_indices = action_delta_indices = reward_delta_indices = None

    def get_optimizer_preset(self):
        raise NotImplementedError

    def get_scheduler_preset(self):
        raise NotImplementedError

    def validate_features(self):
        pass


class StillPolicy(PreTrainedPolicy):
    """Always answers 0."""

    config_class, name = StillConfig, "still"

    def get_optim_params(self):
        return {}

    def reset(self):
        pass

    def forward(self, batch):
        raise NotImplementedError

    def predict_action_chunk(self, batch):
        return self.select_action(batch)[:, None]

    def select_action(self, batch):
        return torch.zeros(len(batch["observation.state"]), 2)


def still_policy(fps=None, **features):
    """Make one that reads ``features``, name -> shape, by default all that ``CountdownEnv`` offers."""
    shapes = features or {"state": (2,), "environment_state": (1,)}
    kinds = {"state": FeatureType.STATE, "environment_state": FeatureType.ENV}
    inputs = {
        f"observation.{name}": PolicyFeature(kinds.get(name, FeatureType.VISUAL), shape)
        for name, shape in shapes.items()
    }
    outputs = {"action": PolicyFeature(FeatureType.ACTION, (2,))}
    return StillPolicy(
        StillConfig(input_features=inputs, output_features=outputs, device="cpu", fps=fps, push_to_hub=False)
    )
