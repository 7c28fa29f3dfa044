"""Runs a network on many images: in batches of equal padded shape, while the next images are decoded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, TypeVar

from resnest_core.cpus import allowed_cpus
from resnest_core.preprocess import PreparedImage

DEFAULT_BATCH_SIZE = 4
AHEAD = 3  # batches read ahead, so that images of other shapes in between don't break one up

T = TypeVar("T")
R = TypeVar("R")


@dataclass(eq=False)
class _Place(Generic[R]):
    """An item on its way: decoded, then run, then yielded."""

    prepared: Future[PreparedImage]
    result: Future[R] = field(default_factory=Future)
    is_started: bool = False


def in_batches(
    prepare: Callable[[T], PreparedImage],
    run: Callable[[Sequence[PreparedImage]], Sequence[R]],
    items: Iterable[T],
    batch_size: int,
) -> Generator[Callable[[], R], None, None]:
    """Yield for each item, in order, a function that waits for its result or raises its error.

    `prepare` runs in threads, and `run` in another one, on up to `batch_size` images of one shape. Three batches are
    read ahead, so memory doesn't grow with the number of items.
    """
    remaining = iter(items)
    window: deque[_Place[R]] = deque()
    with ThreadPoolExecutor(max(1, allowed_cpus() // 2)) as decoders, ThreadPoolExecutor(1) as network:
        try:
            while True:
                for item in islice(remaining, AHEAD * batch_size - len(window)):
                    window.append(_Place(decoders.submit(prepare, item)))
                if not window:
                    return
                batch = _next_batch(window, batch_size)
                if batch:
                    network.submit(_run, run, batch)
                # The batch runs while the caller works with the results of the one before.
                while window and window[0].is_started and window[0] not in batch:
                    yield window.popleft().result.result
        finally:
            decoders.shutdown(wait=False, cancel_futures=True)
            network.shutdown(wait=False, cancel_futures=True)


def _next_batch(window: Iterable[_Place[R]], batch_size: int) -> list[_Place[R]]:
    """Return the first place that isn't started, and those of its shape; those that can't be decoded end here."""
    batch: list[_Place[R]] = []
    shape = None
    for place in window:
        if place.is_started:
            continue
        if error := place.prepared.exception():
            place.result.set_exception(error)
            place.is_started = True
        elif shape in (None, place.prepared.result().pixels.shape):
            shape = place.prepared.result().pixels.shape
            place.is_started = True
            batch.append(place)
            if len(batch) == batch_size:
                break
    return batch


def _run(run: Callable[[Sequence[PreparedImage]], Sequence[R]], batch: Sequence[_Place[R]]) -> None:
    try:
        for place, result in zip(batch, run([place.prepared.result() for place in batch]), strict=True):
            place.result.set_result(result)
    except BaseException as error:  # the caller's thread raises it
        for place in batch:
            place.result.set_exception(error)
