"""What makes this package at home in LeRobot's own commands; ``lerobot_policy_anyorder`` loads it.

Importing this package is cheap: processes that only simulate need neither LeRobot nor torch.
"""
