"""Limits the images of a model that are in flight."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from resnest_core.errors import RuntimeUnavailableError


class InFlightLimit:
    """Counts a model's images in flight: from when the request has arrived until it is answered."""

    def __init__(self, model: str, limit: int) -> None:
        self.count = 0
        self._model = model
        self._limit = limit

    @contextmanager
    def reserve(self, images: int) -> Iterator[None]:
        """Count images as in flight while the block runs.

        Raises:
            RuntimeUnavailableError: the limit would be exceeded.
        """
        if self.count + images > self._limit:
            raise RuntimeUnavailableError(
                f"{self._model} has {self._limit} images in flight, its limit: try again later."
            )
        self.count += images
        try:
            yield
        finally:
            self.count -= images
