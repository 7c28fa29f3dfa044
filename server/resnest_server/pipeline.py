"""From an encoded image to an encoded answer, none of it on the event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from pydantic_core import to_json

from resnest_core.drawing import draw, encode
from resnest_core.errors import ImageError
from resnest_core.formats import FORMATS
from resnest_core.images import decode_image
from resnest_server.encoded_image import EncodedImage
from resnest_server.engines import Engine, tracer
from resnest_server.host_threads import HostThreads
from resnest_server.metrics import Metrics
from resnest_server.parameters import DetectOptions
from resnest_server.settings import Settings
from resnest_server.timings import Timings


@dataclass(frozen=True)
class Answer:
    """An encoded answer for one image: JSON, or its drawing."""

    body: bytes
    timings: Timings


class Pipeline:
    """Starts the engines, and encodes their answers on the threads that they decode on."""

    def __init__(self, engines: Mapping[str, Engine], settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._host = HostThreads(settings.max_decoding_pixels)
        self._engines = engines

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the engines for as long as the block takes."""
        async with AsyncExitStack() as stack:
            stack.callback(self._host.close)
            for engine in self._engines.values():
                await engine.start(self._host)
                stack.push_async_callback(engine.stop)
            yield

    async def answer(self, engine: Engine, image: EncodedImage, options: DetectOptions, image_id: int = 0) -> Answer:
        """Return an engine's answer for an image. Cancelled requests are dequeued.

        Raises:
            ImageError: the image is damaged.
            RuntimeUnavailableError: the runtime can't answer now.
            InferenceError: it failed.
        """
        timings = Timings()

        def render() -> bytes:
            with timings.stage("format"):
                if options.is_drawing:
                    pixels = decode_image(image.data, max_pixels=self._settings.max_pixels)
                    return encode(draw(pixels, detections, engine.card, score_threshold=0), options.media_type)
                answer_format = FORMATS[options.format]
                answer = answer_format.make(detections, engine.card, masks=options.masks, image_id=image_id)
            if answer_format.add_timings:
                answer_format.add_timings(answer, timings.with_total())
            return to_json(answer)

        try:
            found = await engine.detect(image, options, timings)
        except ImageError:
            self._metrics.decode_failures.labels(engine.name).inc()
            raise
        detections = options.select(found.detections)
        with tracer.start_as_current_span("format"):
            body = await self._host.run(render, image.pixels)
        self._metrics.count_image(engine.name, timings, found.batch_size, len(detections))
        return Answer(body, timings)
