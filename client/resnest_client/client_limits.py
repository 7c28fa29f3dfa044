"""Default time-outs, retries and concurrency of the clients."""

from __future__ import annotations

from resnest_core.errors import ParameterError

TIMEOUT = 60.0  # seconds; a large model on a busy CPU is slow
CONNECT_TIMEOUT = 10.0  # seconds at most to reach the server
MAX_CONCURRENCY = 4  # requests to a gateway that are in flight at a time
RETRIES = 2  # maximum number of retries per request
GRPC_MAX_CONCURRENCY = 8  # to Triton: as many as the largest batch of the repository that is generated


def check_bounds(timeout: float, max_concurrency: int) -> None:
    """Check time-out and concurrency.

    Raises:
        ParameterError: one is out of range.
    """
    if not timeout > 0:
        raise ParameterError(f"timeout must be more than 0 seconds, not {timeout}.")
    if max_concurrency < 1:
        raise ParameterError(f"max_concurrency must be at least 1, not {max_concurrency}.")
