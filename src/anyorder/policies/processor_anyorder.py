"""LeRobot's pre- and post-processors: batch axis and devices only, as the policy normalises by itself."""

from typing import Any

from lerobot.processor import make_default_policy_processor_steps, make_policy_processor_pipelines

from anyorder.plugin.processors import normalizer_processor, unnormalizer_processor
from anyorder.policies.configuration_anyorder import AnyOrderConfig


def make_anyorder_pre_post_processors(config: AnyOrderConfig, dataset_stats: Any = None) -> tuple[Any, Any]:
    """Return the two pipelines LeRobot wraps around the policy; ``dataset_stats`` is not used."""
    steps = make_default_policy_processor_steps(config, None, normalizer_device=config.device)
    return make_policy_processor_pipelines(
        input_steps=[steps.rename_observations, steps.add_batch_dim, steps.to_device, normalizer_processor()],
        output_steps=[unnormalizer_processor(), steps.to_cpu],
    )
