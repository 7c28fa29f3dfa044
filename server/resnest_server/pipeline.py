"""From an encoded image to an encoded answer, none of it on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from pydantic_core import to_json

from resnest_core.drawing import draw, encode
from resnest_core.errors import ImageError
from resnest_core.formats import FORMATS
from resnest_core.images import decode_image
from resnest_server.engines import Engine, LocalEngine, host_threads, tracer
from resnest_server.metrics import Metrics
from resnest_server.models import Models
from resnest_server.parameters import DetectOptions
from resnest_server.settings import Settings
from resnest_server.timings import Timings
from resnest_server.triton_engine import TritonEngine


@dataclass(frozen=True)
class Answer:
    """An encoded answer for one image: JSON, or its drawing."""

    body: bytes
    timings: Timings


class Pipeline:
    """Has an engine for each model, and turns what it finds into answers, on as many threads as there are cores."""

    def __init__(self, models: Models, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._host = host_threads()
        self.engines: dict[str, Engine] = {
            name: LocalEngine(models.detectors[name], settings, self._host)
            if name in models.detectors
            else TritonEngine(card, settings)
            for name, card in models.cards.items()
        }
        metrics.watch(self.engines)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the engines for as long as the block takes."""
        async with AsyncExitStack() as stack:
            stack.callback(self._host.shutdown, wait=False, cancel_futures=True)
            for engine in self.engines.values():
                await engine.start()
                stack.push_async_callback(engine.stop)
            yield

    def check_health(self) -> None:
        """Raise RuntimeUnavailableError where an engine doesn't answer."""
        for engine in self.engines.values():
            engine.check_health()

    async def answer(self, data: bytes, options: DetectOptions, image_id: int = 0) -> Answer:
        """Return the answer for an image. Who is cancelled leaves the queue.

        Raises:
            ImageError: the bytes are no image, or one that is damaged or too large.
            RuntimeUnavailableError: the runtime can't answer now.
            InferenceError: it failed.
        """
        name = options.card.name
        timings = Timings()

        def render() -> bytes:
            with timings.stage("format"):
                if options.is_drawing:
                    pixels = decode_image(data, max_pixels=self._settings.max_pixels)
                    return encode(draw(pixels, detections, options.card, score_threshold=0), options.media_type)
                answer_format = FORMATS[options.format]
                answer = answer_format.make(detections, options.card, masks=options.masks, image_id=image_id)
            if answer_format.add_timings:
                answer_format.add_timings(answer, timings.with_total())
            return to_json(answer)

        try:
            found = await self.engines[name].detect(data, options, timings)
        except ImageError:
            self._metrics.decode_failures.labels(name).inc()
            raise
        detections = options.select(found.detections)
        with tracer.start_as_current_span("format"):
            body = await asyncio.get_running_loop().run_in_executor(self._host, render)
        self._metrics.count_image(name, timings, found.batch_size, len(detections))
        return Answer(body, timings)
