"""What a load gave, simulated or measured: the same figures from the same times, so that the two compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """The images of a load.

    Attributes:
        starts: when each answered image was sent, in seconds.
        ends: when it was answered.
        refused: images that were answered 503, of those sent from `begin` on.
        begin, end: the window in which answers are counted for images/s. Latencies are of images sent from `begin` on.
        utilisation: the share of the window in which a server was busy, of 0 to 1; a measurement has none.
        queue_images: mean number of images that wait for a server in all gateways together, likewise.
        batch_images: mean images of a batch, likewise.
    """

    starts: Times
    ends: Times
    refused: int
    begin: float
    end: float
    utilisation: float = float("nan")
    queue_images: float = float("nan")
    batch_images: float = float("nan")

    @classmethod
    def measured(
        cls, starts: Sequence[float], ends: Sequence[float], refused: int, last_start: float | None
    ) -> Outcome:
        """Return that of a real load; `last_start`: when the last image of an open loop was sent."""
        return cls(
            np.array(starts), np.array(ends), refused, min(starts), max(ends) if last_start is None else last_start
        )

    @property
    def latencies(self) -> Times:
        """Seconds from sending to the answer, of images answered."""
        return (self.ends - self.starts)[self.starts >= self.begin]

    @property
    def images_per_second(self) -> float:
        counted = np.count_nonzero((self.ends >= self.begin) & (self.ends <= self.end))
        return float(counted / (self.end - self.begin))

    @property
    def mean_seconds(self) -> float:
        return float(self.latencies.mean()) if len(self.latencies) else float("nan")

    def percentile(self, percent: float) -> float:
        """Return a percentile of the latencies, in seconds; infinite if no image was answered."""
        return float(np.percentile(self.latencies, percent)) if len(self.latencies) else float("inf")

    @property
    def refused_share(self) -> float:
        return self.refused / max(self.refused + len(self.latencies), 1)
