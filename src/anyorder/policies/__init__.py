"""LeRobot policy classes; importing this loads LeRobot, which takes seconds."""

from anyorder.policies.configuration_anyorder import AnyOrderConfig
from anyorder.policies.modeling_anyorder import AnyOrderPolicy
from anyorder.policies.processor_anyorder import make_anyorder_pre_post_processors

__all__ = ["AnyOrderConfig", "AnyOrderPolicy", "make_anyorder_pre_post_processors"]
