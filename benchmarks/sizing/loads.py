"""How images arrive: an open loop at given times, or a closed one of clients that wait for their answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.sizing.outcome import Times
from resnest_core.errors import ParameterError


@dataclass(frozen=True)
class OpenLoop:
    """Images arrive at these times, in seconds, whatever the servers do; the first `warm_up` aren't counted."""

    times: Times
    warm_up: int = 0


@dataclass(frozen=True)
class ClosedLoop:
    """Clients send `images` together, each one after the answer to its last; the first `warm_up` aren't counted."""

    clients: int
    images: int
    warm_up: int = 0

    def __post_init__(self) -> None:
        if self.clients < 1 or self.images < 1:
            raise ParameterError("A closed loop has at least 1 client and 1 image.")


def poisson(rate: float, images: int, seed: int, warm_up: int = 0) -> OpenLoop:
    """Return random arrivals of independent users, `rate` per second on average."""
    if not 0 < rate < float("inf") or images <= warm_up:
        raise ParameterError("An open loop has a rate above 0, and images beyond those of the warm-up.")
    gaps = np.random.default_rng(seed).exponential(1 / rate, images)
    return OpenLoop(np.cumsum(gaps), warm_up)
