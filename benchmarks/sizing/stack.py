"""What a simulation simulates: gateways behind a load balancer, each with a queue and servers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from resnest_core.errors import ParameterError


class Balancer(str, Enum):
    """How the load balancer chooses a gateway."""

    ROUND_ROBIN = "round-robin"
    """One after the other: nginx's default."""
    RANDOM = "random"
    """Any: Kubernetes' Services, for each connection."""
    LEAST = "least"
    """One with the fewest images in flight: nginx's `least_conn`."""


class Batching(str, Enum):
    """Whose rules decide which images share a batch."""

    GATEWAY = "gateway"
    TRITON = "triton"


@dataclass(frozen=True)
class Stack:
    """Gateways, and what each of them has.

    Attributes:
        gateways: how many there are.
        servers: batches that one gateway runs at a time: `RESNEST_INSTANCES`, or Triton's instances of the network.
        max_batch: images of one shape in a batch.
        max_wait: seconds that an image waits for a batch to fill.
        max_queue: images in flight of one gateway; more are refused with 503.
        host_threads: images that one gateway decodes or encodes at a time.
        decode_seconds: seconds on such a thread before the network, and `encode_seconds` after it.
        shapes: the shares of the padded shapes; only images of one shape share a batch.

    Raises:
        ParameterError: one is out of range.
    """

    gateways: int = 1
    servers: int = 1
    max_batch: int = 1
    max_wait: float = 0.0
    max_queue: int = 64
    host_threads: int = 1
    decode_seconds: float = 0.0
    encode_seconds: float = 0.0
    shapes: tuple[float, ...] = (1.0,)
    balancer: Balancer = Balancer.ROUND_ROBIN
    batching: Batching = Batching.GATEWAY

    def __post_init__(self) -> None:
        if min(self.gateways, self.servers, self.max_batch, self.max_queue, self.host_threads) < 1:
            raise ParameterError("Gateways, servers, images of a batch, places and threads are at least 1.")
        if not all(0 <= seconds < math.inf for seconds in (self.max_wait, self.decode_seconds, self.encode_seconds)):
            raise ParameterError("Seconds are at least 0.")
        if not self.shapes or not all(0 < share < math.inf for share in self.shapes):
            raise ParameterError("Shares of shapes are above 0, such as 0.7,0.3.")

    @property
    def host_seconds(self) -> float:
        """Seconds of an image on a thread of its gateway."""
        return self.decode_seconds + self.encode_seconds
