"""LeRobot's policy server for asynchronous inference, with this package's policies, on this machine only.

``python -m lerobot_policy_anyorder.policy_server --host=127.0.0.1 --port=8080 --fps=30``

LeRobot's own server loads no plugins and knows its policies by name. Its transport is pickle: whoever can reach the
port can run code. So any address but this machine's own is refused; to reach another machine, tunnel the port
(``ssh -L 8080:127.0.0.1:8080 gpu-machine``). LeRobot writes a log into ``logs/`` of the current folder.
"""

import ipaddress
import sys
from collections.abc import Sequence
from typing import Any

from anyorder.errors import ConfigError, UserError, installed
from anyorder.plugin.excepthook import USAGE_ERROR


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted; returns the exit status, 2 after bad input."""
    try:
        config = settings(list(sys.argv[1:] if arguments is None else arguments))
    except UserError as error:
        print(f"policy_server: {error}", file=sys.stderr)
        return USAGE_ERROR
    support_anyorder()
    from lerobot.async_inference.policy_server import serve

    serve(config)
    return 0


def settings(arguments: list[str]) -> Any:
    """Return LeRobot's ``PolicyServerConfig`` from command line words.

    Raises:
        ConfigError: the host is not this machine's own address, or a number makes no sense.
    """
    require_grpc()
    import draccus
    from lerobot.async_inference.configs import PolicyServerConfig

    try:
        config = draccus.parse(PolicyServerConfig, args=arguments)
    except draccus.utils.ParsingError as error:
        reason = str(error.__cause__ or error)
        raise ConfigError("arguments", " ".join(arguments), reason) from error
    check_loopback(config.host)
    return config


def check_loopback(host: str) -> None:
    """Raise a ConfigError unless ``host`` is this machine's own address.

    >>> check_loopback("localhost"), check_loopback("127.0.0.1")
    (None, None)
    >>> check_loopback("0.0.0.0")
    Traceback (most recent call last):
    anyorder.errors.ConfigError: host: '0.0.0.0' given, allowed: 127.0.0.1, as whoever reaches the port can run code
    """
    allowed = "127.0.0.1, as whoever reaches the port can run code"
    if host == "localhost":
        return
    try:
        # LeRobot cannot bind an address of version 6.
        own = ipaddress.IPv4Address(host).is_loopback
    except ValueError as error:
        raise ConfigError("host", host, allowed) from error
    if not own:
        raise ConfigError("host", host, allowed)


def support_anyorder() -> None:
    """Add this package's policies to those that LeRobot's server accepts."""
    from lerobot.async_inference.constants import SUPPORTED_POLICIES

    from anyorder.policies import AnyOrderPolicy

    if AnyOrderPolicy.name not in SUPPORTED_POLICIES:
        SUPPORTED_POLICIES.append(AnyOrderPolicy.name)


def require_grpc() -> None:
    """Raise a ConfigError if LeRobot's asynchronous inference is not installed."""
    from importlib.util import find_spec

    if find_spec("grpc") is None:
        raise ConfigError("policy_server", "no grpc", installed("an installed gRPC", "async"))
