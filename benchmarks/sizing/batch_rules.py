"""Which queued images run as the next batch: the rules of the gateway's `Batcher`, and of Triton's dynamic batcher.

A rule is asked whenever a server is free and an image queued. It returns the images to run now, or none to wait: until
another image arrives, or the oldest one has waited for as long as it may.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice, takewhile
from typing import Protocol, TypeVar

from benchmarks.sizing.stack import Batching

ROUNDING = 1e-9  # s


class Shaped(Protocol):
    """An image with a padded shape."""

    @property
    def shape(self) -> int: ...


S = TypeVar("S", bound=Shaped)


def gateway_batch(queue: Sequence[S], max_batch: int, waited: float, max_wait: float) -> list[S]:
    """Return the oldest image and those of its shape, wherever they are in the queue.

    Args:
        queue: the images in order of arrival; at least one.
        max_batch: the most that may run together.
        waited: seconds that the oldest has waited.
        max_wait: seconds that it may wait for a batch to fill.
    """
    if max_batch == 1 and max_wait == 0:
        return [queue[0]]
    shape = queue[0].shape
    alike = list(islice((image for image in queue if image.shape == shape), max_batch))
    return alike if len(alike) == max_batch or waited >= max_wait - ROUNDING else []


def triton_batch(queue: Sequence[S], max_batch: int, waited: float, max_wait: float) -> list[S]:
    """Return the oldest image and those of its shape that follow directly: an image of another shape ends the batch.

    Until the oldest is overdue, a batch of a preferred size runs (`preferred_batch_size`: half of the most, and the
    most); without a delay no image is ever overdue.
    """
    shape = queue[0].shape
    alike = list(islice(takewhile(lambda image: image.shape == shape, queue), max_batch))
    preferred = max((size for size in (max_batch // 2, max_batch) if 0 < size <= len(alike)), default=0)
    is_overdue = max_wait > 0 and waited >= max_wait - ROUNDING
    if preferred and not is_overdue:
        return alike[:preferred]
    return alike if is_overdue or max_wait == 0 or len(alike) < len(queue) else []


def rule(batching: Batching) -> Callable[[Sequence[S], int, float, float], list[S]]:
    """Return the function of these rules."""
    return triton_batch if batching is Batching.TRITON else gateway_batch
