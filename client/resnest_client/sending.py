"""What every client has: its bounds, and the bytes that it sends of an image."""

from __future__ import annotations

from pathlib import Path

from resnest_core.drawing import encode
from resnest_core.errors import ParameterError
from resnest_core.images import Image, load_image, read_file

TIMEOUT = 60.0  # seconds; a large model on a busy CPU takes its time
CONNECT_TIMEOUT = 10.0  # seconds at most to reach the server
MAX_CONCURRENCY = 4  # requests to a gateway that are in flight at a time
RETRIES = 2  # how many times at most a request is sent again
GRPC_MAX_CONCURRENCY = 8  # to Triton: as many as the largest batch of the repository that is generated


def check_bounds(timeout: float, max_concurrency: int) -> None:
    """Refuse bounds that none could keep.

    Raises:
        ParameterError: one is outside what it may be.
    """
    if not timeout > 0:
        raise ParameterError(f"timeout must be more than 0 seconds, not {timeout}.")
    if max_concurrency < 1:
        raise ParameterError(f"max_concurrency must be at least 1, not {max_concurrency}.")


def encoded(image: Image) -> bytes:
    """Return an image's bytes as they are; of pixels, those of a PNG.

    Raises:
        ImageError: the image can't be used.
    """
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | Path):
        return read_file(image)
    return encode(load_image(image), "image/png")
