"""A queue in front of a network; images of the same padded shape run as one batch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from resnest_core.detections import Detections
from resnest_core.detector import InProcessDetector
from resnest_core.errors import RuntimeUnavailableError
from resnest_core.preprocess import PreparedImage


class InferenceError(Exception):
    """The runtime raised an error, or its outputs make no sense; the cause of this one says which."""


class Inference(NamedTuple):
    """The detections of one image, and its times."""

    detections: Detections
    wait_seconds: float
    network_seconds: float
    batch_size: int


@dataclass(eq=False)
class _Waiting:
    """An image in the queue."""

    image: PreparedImage
    score_threshold: float
    want_masks: bool
    found: asyncio.Future[Inference]
    since: float = field(default_factory=time.monotonic)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.image.pixels.shape


class Batcher:
    """Runs one detector for many requests; made and used on one event loop, between `start` and `stop`.

    Args:
        detector: what runs.
        max_batch: images that may run together.
        max_wait: seconds that an image may wait for a batch to fill; with 0 only images already queued share one.
        instances: batches that may run at a time; the detector was loaded for as many.
    """

    def __init__(self, detector: InProcessDetector, *, max_batch: int, max_wait: float, instances: int) -> None:
        self.detector = detector
        self._max_batch = max_batch
        self._max_wait = max_wait
        self._waiting: list[_Waiting] = []
        self._arrival = asyncio.Condition()
        self._threads = ThreadPoolExecutor(instances, f"{detector.card.name}-network")
        self._instances = instances
        self._workers: list[asyncio.Task[None]] = []
        self._running_since: dict[int, float] = {}

    def start(self) -> None:
        """Start the workers."""
        self._workers = [asyncio.create_task(self._work(number)) for number in range(self._instances)]

    async def stop(self) -> None:
        """Stop the workers. A running batch finishes in its thread; queued images are not run."""
        for worker in self._workers:
            worker.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*self._workers)
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def waiting(self) -> int:
        """Queued images."""
        return len(self._waiting)

    def busy_seconds(self) -> float:
        """Return how long the oldest running batch has been running, in seconds."""
        now = time.monotonic()
        return max((now - since for since in self._running_since.values()), default=0.0)

    async def infer(self, image: PreparedImage, score_threshold: float, want_masks: bool) -> Inference:
        """Queue an image and return its detections. Cancelled requests are dequeued.

        Raises:
            InferenceError: the runtime failed.
            RuntimeUnavailableError: the runtime can't answer now.
        """
        waiting = _Waiting(image, score_threshold, want_masks, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        async with self._arrival:
            self._arrival.notify_all()
        try:
            return await waiting.found
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    async def _work(self, number: int) -> None:
        while True:
            batch = await self._next_batch()
            self._running_since[number] = time.monotonic()
            try:
                await self._run(batch)
            finally:
                del self._running_since[number]

    async def _next_batch(self) -> list[_Waiting]:
        """Dequeue the oldest image, and others of its shape."""
        async with self._arrival:
            while True:
                await self._arrival.wait_for(lambda: self._waiting)
                oldest = self._waiting[0]
                await self._gather(oldest)
                batch = self._alike(oldest)  # empty if the oldest was cancelled or another worker took it
                for waiting in batch:
                    self._waiting.remove(waiting)
                if batch:
                    return batch

    async def _gather(self, oldest: _Waiting) -> None:
        """Wait until the oldest image's batch is full, or its waiting time is over."""
        remaining = oldest.since + self._max_wait - time.monotonic()
        if remaining > 0:
            full = self._arrival.wait_for(lambda: len(self._alike(oldest)) >= self._max_batch)
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(full, remaining)

    def _alike(self, oldest: _Waiting) -> list[_Waiting]:
        """Return the queued images that may run with the oldest one, itself included; none if it was dequeued."""
        if oldest not in self._waiting:
            return []
        return [waiting for waiting in self._waiting if waiting.shape == oldest.shape][: self._max_batch]

    async def _run(self, batch: Sequence[_Waiting]) -> None:
        """Run a batch; if it fails, run each image alone, so that one image can't fail the others."""
        start = time.monotonic()
        try:
            results = await asyncio.get_running_loop().run_in_executor(self._threads, self._infer, batch)
        except Exception as error:
            if len(batch) > 1:
                for waiting in batch:
                    await self._run([waiting])
            elif not batch[0].found.done():
                batch[0].found.set_exception(error)
            return
        seconds = time.monotonic() - start
        for waiting, detections in zip(batch, results, strict=True):
            if not waiting.found.done():  # it is done if the request was cancelled
                waiting.found.set_result(Inference(detections, start - waiting.since, seconds, len(batch)))

    def _infer(self, batch: Sequence[_Waiting]) -> list[Detections]:
        try:
            results = self.detector.infer(
                [waiting.image for waiting in batch],
                [waiting.score_threshold for waiting in batch],
                [waiting.want_masks for waiting in batch],
            )
            for detections in results:
                _check(detections, len(self.detector.card.classes))
        except RuntimeUnavailableError:
            raise
        except Exception as error:
            raise InferenceError(f"{self.detector.card.name} failed.") from error
        return results


def _check(detections: Detections, classes: int) -> None:
    """Raise ValueError if boxes, scores or labels are out of range."""
    labels, scores = detections.labels, detections.scores
    finite = np.isfinite(detections.boxes_xyxy).all() and np.isfinite(scores).all()
    if not (
        finite and (scores >= 0).all() and (scores <= 1).all() and (labels >= 0).all() and (labels < classes).all()
    ):
        raise ValueError("boxes, scores or labels are out of range")
