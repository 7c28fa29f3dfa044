"""Limits what is in flight: the images of a model, and the bytes of all requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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


class BytesInFlight:
    """Counts the bytes of the bodies that are arriving or being answered."""

    def __init__(self, limit: int) -> None:
        self.count = 0
        self._limit = limit

    @contextmanager
    def of_request(self) -> Iterator[Callable[[int], None]]:
        """Give a function that counts bytes of one request, for as long as the block runs.

        The function raises RuntimeUnavailableError where the limit would be exceeded.
        """
        held = 0

        def hold(count: int) -> None:
            nonlocal held
            if self.count + count > self._limit:
                raise RuntimeUnavailableError(
                    f"The requests being answered have {self._limit:,} bytes, this server's limit: try again later."
                )
            self.count += count
            held += count

        try:
            yield hold
        finally:
            self.count -= held
