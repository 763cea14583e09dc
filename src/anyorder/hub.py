"""What may go wrong when the Hugging Face hub is asked for a file, told in one line."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from anyorder.errors import UserError, reason

FAILURES = (OSError, httpx.HTTPError, httpx.InvalidURL, HFValidationError)
"""Asking the hub may raise these; those of the network are not ``OSError`` in the library that it is asked with."""
UNREACHABLE = (httpx.TransportError, ConnectionError, LocalEntryNotFoundError)
"""These say that the hub did not answer, or was not to be asked."""


@contextmanager
def asking_hub(
    kind: type[UserError], field: str, given: str, allowed: str, *also: type[Exception], offline: str = ""
) -> Iterator[None]:
    """Turn whatever asking the hub raises into one line.

    Args:
        kind: what to raise.
        field: what a message calls it.
        given: the name on the hub.
        allowed: what is allowed.
        also: what else the block may raise of a name that cannot be used.
        offline: what to do without network.

    Raises:
        UserError: of that kind; its line ends with the reason.

    >>> with asking_hub(UserError, "policy", "me/lift", "a hub name", offline="give a folder"):
    ...     raise httpx.ConnectError("no route")
    Traceback (most recent call last):
    anyorder.errors.UserError: policy: 'me/lift' given, allowed: a hub name (no answer from it: no route; give a folder)
    """
    failures: tuple[type[Exception], ...] = (*FAILURES, *also)
    try:
        yield
    except UserError:
        raise
    except failures as error:
        why = reason(error)
        if isinstance(error, UNREACHABLE) or isinstance(error.__cause__, UNREACHABLE):
            why = "; ".join(filter(None, (f"no answer from it: {why}", offline)))
        raise kind(field, given, f"{allowed} ({why})") from error
