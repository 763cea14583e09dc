"""Placeholders for the normalisation steps that LeRobot expects in every policy's pipelines."""

from typing import Any

from lerobot.configs import PipelineFeatureType, PolicyFeature
from lerobot.lerobot_types import EnvTransition
from lerobot.processor import ProcessorStep


class normalizer_processor(ProcessorStep):  # noqa: N801  (LeRobot looks for this very name)
    """Changes nothing: the policy normalises by itself.

    ``lerobot-train`` overrides a step of this name whenever it resumes or starts from a saved policy, and fails where
    a pipeline has none. It gives the dataset's statistics; a policy of ours keeps the ranges it was fitted to.
    """

    def __init__(self, **_: Any) -> None:
        pass

    def __call__(self, transition: EnvTransition) -> EnvTransition:
        """Return the transition as it is."""
        return transition

    def transform_features(
        self, features: dict[PipelineFeatureType, dict[str, PolicyFeature]]
    ) -> dict[PipelineFeatureType, dict[str, PolicyFeature]]:
        """Return the features as they are."""
        return features


class unnormalizer_processor(normalizer_processor):  # noqa: N801
    """The same for actions."""
