"""What a child process does in tests of how processes end: it tells who it is and sleeps."""

import os
import time


def sleep(pipe):
    """Tell the process id, then sleep for a minute."""
    pipe.send(os.getpid())
    time.sleep(60)
