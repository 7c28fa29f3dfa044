"""How long a server takes for a batch, as it was measured."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from resnest_core.errors import ParameterError


class ServiceTimes:
    """Measured seconds of batches, by batch size; a batch of a size that wasn't measured costs as much per image.

    Args:
        samples: seconds of each measured batch, by the number of its images.

    Raises:
        ParameterError: there are none, or one isn't a positive number.
    """

    def __init__(self, samples: Mapping[int, Sequence[float]]) -> None:
        if not samples or not all(samples.values()):
            raise ParameterError("There are no service times: give the seconds of at least one batch.")
        if min(samples) < 1 or not all(0 < seconds < float("inf") for each in samples.values() for seconds in each):
            raise ParameterError("Service times are seconds above 0, of batches of at least 1 image.")
        self._samples = {size: sorted(each) for size, each in samples.items()}

    @classmethod
    def parse(cls, text: str) -> ServiceTimes:
        """Read seconds of single images, such as `0.25` or `0.24,0.26`, or the name of a JSON file that `save` wrote.

        Raises:
            ParameterError: it is neither, or a number isn't positive.
        """
        try:
            if not text.endswith(".json"):
                return cls({1: [float(part) for part in text.split(",")]})
            content = json.loads(Path(text).read_text(encoding="utf-8"))
            return cls({int(size): [float(each) for each in samples] for size, samples in content.items()})
        except (ValueError, TypeError, AttributeError, OSError) as error:
            raise ParameterError(
                f"{text!r} gives no service times: write seconds, such as 0.25 or 0.24,0.26, or the name of a JSON "
                'file such as {"1": [0.24, 0.26], "4": [0.91]}.'
            ) from error

    def save(self, path: Path) -> None:
        """Write the samples as JSON."""
        path.write_text(json.dumps(self._samples, indent=1) + "\n", encoding="utf-8")

    def seconds(self, images: int, draw: float) -> float:
        """Return the seconds of a batch; `draw`, in [0, 1), chooses the sample: a larger one never takes less."""
        samples, factor = self._nearest(images)
        return samples[int(draw * len(samples))] * factor

    def mean(self, images: int = 1) -> float:
        """Return the mean seconds of a batch."""
        samples, factor = self._nearest(images)
        return statistics.fmean(samples) * factor

    def seconds_per_image(self, max_batch: int) -> float:
        """Return the mean seconds per image in batches of the size, up to `max_batch`, that costs least per image."""
        return min(self.mean(images) / images for images in range(1, max_batch + 1))

    def _nearest(self, images: int) -> tuple[Sequence[float], float]:
        """Return the samples of the nearest size that was measured, and the factor to this size."""
        size = min(self._samples, key=lambda size: (abs(size - images), size))
        return self._samples[size], images / size
