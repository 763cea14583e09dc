"""LeRobot's pre- and post-processors: batch axis and devices only, as the policy normalizes by itself."""

from typing import Any

from lerobot.configs import PipelineFeatureType, PolicyFeature
from lerobot.lerobot_types import EnvTransition
from lerobot.processor import ProcessorStep, make_default_policy_processor_steps, make_policy_processor_pipelines

from anyorder.policies.configuration_anyorder import AnyOrderConfig


def make_anyorder_pre_post_processors(config: AnyOrderConfig, dataset_stats: Any = None) -> tuple[Any, Any]:
    """Return the two pipelines LeRobot wraps around the policy; ``dataset_stats`` is not used."""
    steps = make_default_policy_processor_steps(config, None, normalizer_device=config.device)
    return make_policy_processor_pipelines(
        input_steps=[steps.rename_observations, steps.add_batch_dim, steps.to_device, normalizer_processor()],
        output_steps=[unnormalizer_processor(), steps.to_cpu],
    )


class normalizer_processor(ProcessorStep):  # noqa: N801  (LeRobot looks for this very name)
    """Changes nothing: the policy normalizes by itself.

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
