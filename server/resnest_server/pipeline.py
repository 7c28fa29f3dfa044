"""From an encoded image to an encoded answer, none of it on the event loop."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import cv2
from anyio.to_thread import run_sync
from opentelemetry import trace
from pydantic_core import to_json

from resnest_core.detections import Detections
from resnest_core.drawing import draw, encode
from resnest_core.errors import ImageError, RuntimeUnavailableError
from resnest_core.formats import FORMATS, TIMED
from resnest_core.images import Pixels, decode_image
from resnest_core.preprocess import PreparedImage, prepare
from resnest_server.batching import Batcher
from resnest_server.metrics import Metrics
from resnest_server.models import Models
from resnest_server.parameters import Asked
from resnest_server.settings import Settings
from resnest_server.timings import Timings

tracer = trace.get_tracer("resnest_server")


@dataclass(frozen=True)
class Answer:
    """An encoded answer for one image: JSON, or its drawing."""

    body: bytes
    timings: Timings


class Pipeline:
    """Decodes and encodes on as many threads as there are cores, and has a batcher for each model."""

    def __init__(self, models: Models, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        # Images are worked on side by side: several threads for one would only wait for each other.
        cv2.setNumThreads(1)
        # Decoded images are large: there are never more of them than cores at work on them.
        self._host = anyio.CapacityLimiter(os.cpu_count() or 1)
        self.batchers = {
            name: Batcher(
                detector,
                max_queue=settings.max_queue,
                max_batch=settings.max_batch,
                max_wait=settings.max_wait_ms / 1000,
                instances=settings.instances,
            )
            for name, detector in models.detectors.items()
        }
        metrics.watch(self.batchers)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the models for as long as the block takes."""
        for batcher in self.batchers.values():
            batcher.start()
        yield
        for batcher in self.batchers.values():
            await batcher.stop()

    def check_health(self) -> None:
        """Raise RuntimeUnavailableError where a network hangs."""
        for name, batcher in self.batchers.items():
            seconds = batcher.busy_seconds()
            if seconds > 2 * self._settings.request_seconds:
                raise RuntimeUnavailableError(f"{name} has not answered for {seconds:.0f} s: restart this server.")

    async def answer(self, data: bytes, asked: Asked, image_id: int = 0) -> Answer:
        """Return the answer for an image. Who is cancelled leaves the queue.

        Raises:
            NotAnImageError: the bytes are no image, or a damaged one.
            ImageTooLargeError: the image has too many pixels.
            RuntimeUnavailableError: the runtime can't answer now.
            InferenceError: it failed.
        """
        name = asked.card.name
        timings = Timings()

        def decode() -> tuple[Pixels | None, PreparedImage]:
            with timings.stage("decode"):
                pixels = decode_image(data, max_pixels=self._settings.max_pixels)
            with timings.stage("resize"):
                return pixels if asked.is_drawing else None, prepare(pixels, asked.card)

        def render() -> bytes:
            with timings.stage("format"):
                if pixels is not None:
                    return encode(draw(pixels, found, asked.card, score_threshold=0), asked.media_type)
                answer = FORMATS[asked.format](found, asked.card, masks=asked.masks, image_id=image_id)
            if fill := TIMED.get(asked.format):
                fill(answer, timings.with_total())
            return to_json(answer)

        try:
            with tracer.start_as_current_span("decode"):
                pixels, image = await run_sync(decode, limiter=self._host)
        except ImageError:
            self._metrics.decode_failures.labels(name).inc()
            raise
        with tracer.start_as_current_span("network", attributes={"model": name}) as span:
            ran = await self.batchers[name].infer(image, asked.score_threshold, asked.want_masks)
            span.set_attribute("batch_size", ran.batch_size)
        timings.add("queue", ran.wait_seconds)
        timings.add("network", ran.network_seconds)
        found: Detections = asked.select(ran.detections)
        with tracer.start_as_current_span("format"):
            body = await run_sync(render, limiter=self._host)
        self._count(name, timings, ran.batch_size, len(found))
        return Answer(body, timings)

    def _count(self, name: str, timings: Timings, batch_size: int, detections: int) -> None:
        for stage, milliseconds in timings.stages.items():
            self._metrics.stages.labels(name, stage).observe(milliseconds / 1000)
        self._metrics.batches.labels(name).observe(batch_size)
        self._metrics.detections.labels(name).observe(detections)
