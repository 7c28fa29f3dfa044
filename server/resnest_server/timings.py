"""Where a request's time goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Timings:
    """Milliseconds by stage, counted from when it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time that the block takes."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._stages[name] = _milliseconds(start)

    def with_total(self) -> dict[str, float]:
        """Return the stages' times, and the total until now: more than their sum, where a stage had to wait."""
        return {**self._stages, "total": _milliseconds(self._start)}


def _milliseconds(start: float) -> float:
    return round((time.perf_counter() - start) * 1000, 2)
