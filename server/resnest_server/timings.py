"""Times per stage of one image."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Timings:
    """Milliseconds by stage, counted from when it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self.stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time that the block takes."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start)

    def add(self, name: str, seconds: float) -> None:
        """Add a stage that was timed elsewhere."""
        self.stages[name] = round(seconds * 1000, 2)

    def with_total(self) -> dict[str, float]:
        """Return the stages' times, and the total until now: more than their sum, where a stage waited for a thread."""
        return {**self.stages, "total": round((time.perf_counter() - self._start) * 1000, 2)}

    def header(self) -> str:
        """Return the value of a Server-Timing header."""
        return ", ".join(f"{name};dur={milliseconds}" for name, milliseconds in self.with_total().items())
