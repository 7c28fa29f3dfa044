"""How many images of a model may be in the house at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from resnest_core.errors import RuntimeUnavailableError


class InFlightLimit:
    """A model's bounded queue, as a count: an image has a place from when its request is there until it is answered."""

    def __init__(self, model: str, limit: int) -> None:
        self.taken = 0
        self._model = model
        self._limit = limit

    @contextmanager
    def take(self, count: int) -> Iterator[None]:
        """Take places for as long as the block takes.

        Raises:
            RuntimeUnavailableError: there aren't so many left.
        """
        if self.taken + count > self._limit:
            raise RuntimeUnavailableError(
                f"{self._model} has all {self._limit} places of its queue taken: try again later."
            )
        self.taken += count
        try:
            yield
        finally:
            self.taken -= count
