"""Several samples of each row of a context, which is encoded once."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from anyorder.errors import NotFiniteError
from anyorder.factorization.base import Factorization
from anyorder.factorization.categorical import ANSWER
from anyorder.factorization.checks import refuse_rows
from anyorder.factorization.draft import Request, Sample
from anyorder.factorization.slots import AskingNetwork


class Repeated(AskingNetwork):
    """A network asked about rows that come ``times`` times, side by side: it reads the context of each once.

    Args:
        network: the network to ask; its cache has ``repeat``, as that of the transformer.
        times: how often each row comes.
    """

    def __init__(self, network: Any, times: int) -> None:
        super().__init__(network)
        self.times = times

    def prefill(self, context: Tensor) -> Any:
        """Encode one of each ``times`` rows, which are equal, and repeat what is kept of it."""
        return self.network.prefill(context[:: self.times]).repeat(self.times)


def sample_repeated(family: Factorization, network: Any, context: Tensor, request: Request, times: int) -> Sample:
    """Draw several codes or chunks for each row of a context.

    Args:
        family: the factorization.
        network: see ``Repeated``.
        context: encoded observations (batch, context tokens, width).
        request: what is asked for; ``known`` is of the batch.
        times: how many samples a row; one is ``family.sample`` itself.

    Returns:
        A sample of (batch * times) rows, those of an observation side by side.

    Raises:
        ConfigError: the family cannot do what is asked.
        NotFiniteError: as of ``family.sample``; its rows are those of the batch.
    """
    asked = network if times == 1 else Repeated(network, times)
    return repeated(lambda many, wanted: family.sample(asked, many, wanted), context, request, times)


def repeated(draw: Callable[[Tensor, Request], Sample], context: Tensor, request: Request, times: int) -> Sample:
    """Call ``draw`` for each row of a context ``times`` times; see ``sample_repeated``."""
    if times == 1:
        return draw(context, request)
    known = None if request.known is None else request.known.repeat_interleave(times, 0)
    try:
        return draw(context.repeat_interleave(times, 0), replace(request, known=known))
    except NotFiniteError as error:
        bad = torch.zeros(len(context), dtype=torch.bool)
        bad[[row // times for row in error.rows] or slice(None)] = True
        refuse_rows(bad, ANSWER)
