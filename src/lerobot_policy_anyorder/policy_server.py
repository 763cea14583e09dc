"""``python -m lerobot_policy_anyorder.policy_server`` starts ``anyorder.plugin.policy_server``."""

import sys

from anyorder.plugin.policy_server import main

if __name__ == "__main__":
    sys.exit(main())
