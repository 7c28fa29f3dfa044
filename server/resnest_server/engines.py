"""What finds objects for the gateway: a network in this process, with a queue before it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from opentelemetry import trace

from resnest_core.card import ModelCard
from resnest_core.cpus import allowed_cpus
from resnest_core.detections import Detections
from resnest_core.detector import InProcessDetector
from resnest_core.errors import RuntimeUnavailableError
from resnest_core.images import decode_image
from resnest_core.preprocess import PreparedImage, prepare
from resnest_core.threads import work_in_callers_thread
from resnest_server.batching import Batcher
from resnest_server.in_flight import InFlightLimit
from resnest_server.parameters import DetectOptions
from resnest_server.settings import Settings
from resnest_server.timings import Timings

tracer = trace.get_tracer("resnest_server")


class EngineResult(NamedTuple):
    """What an engine found in an image; `batch_size` is how many images ran together, where it is known."""

    detections: Detections
    batch_size: int | None


class Engine(ABC):
    """Finds objects with one model; used on one event loop, between `start` and `stop`."""

    def __init__(self, card: ModelCard, settings: Settings) -> None:
        self.card = card
        self.places = InFlightLimit(card.name, settings.max_queue)

    @abstractmethod
    async def start(self) -> None:
        """Begin to answer."""

    @abstractmethod
    async def stop(self) -> None:
        """End; what waits is not run."""

    @abstractmethod
    def check_health(self) -> None:
        """Raise RuntimeUnavailableError, with the reason, where images aren't answered."""

    @property
    @abstractmethod
    def waiting(self) -> int:
        """Images that wait for the network."""

    @abstractmethod
    async def detect(self, data: bytes, options: DetectOptions, timings: Timings) -> EngineResult:
        """Find objects in an encoded image. Who is cancelled leaves the queue.

        Raises:
            ImageError: the bytes are no image, or one that is damaged or too large.
            RuntimeUnavailableError: the runtime can't answer now.
            InferenceError: it failed.
        """


class LocalEngine(Engine):
    """Runs a network in this process."""

    def __init__(self, detector: InProcessDetector, settings: Settings, host: ThreadPoolExecutor) -> None:
        super().__init__(detector.card, settings)
        self._settings = settings
        self._host = host
        self._batcher = Batcher(
            detector,
            max_batch=settings.max_batch,
            max_wait=settings.max_wait_ms / 1000,
            instances=settings.instances,
        )

    async def start(self) -> None:
        self._batcher.start()

    async def stop(self) -> None:
        await self._batcher.stop()

    def check_health(self) -> None:
        seconds = self._batcher.busy_seconds()
        if seconds > 2 * self._settings.request_seconds:
            raise RuntimeUnavailableError(
                f"{self.card.name} has not answered for {seconds:.0f} s: restart this server."
            )

    @property
    def waiting(self) -> int:
        return self._batcher.waiting

    async def detect(self, data: bytes, options: DetectOptions, timings: Timings) -> EngineResult:
        def decode() -> PreparedImage:
            with timings.stage("decode"):
                pixels = decode_image(data, max_pixels=self._settings.max_pixels)
            with timings.stage("resize"):
                return prepare(pixels, self.card)

        with tracer.start_as_current_span("decode"):
            image = await asyncio.get_running_loop().run_in_executor(self._host, decode)
        with tracer.start_as_current_span("network", attributes={"model": self.card.name}) as span:
            ran = await self._batcher.infer(image, options.score_threshold, options.want_masks)
            span.set_attribute("batch_size", ran.batch_size)
        timings.add("queue", ran.wait_seconds)
        timings.add("network", ran.network_seconds)
        return EngineResult(ran.detections, ran.batch_size)


def host_threads() -> ThreadPoolExecutor:
    """Return the threads that decode and encode: one for two CPUs, as the event loop and the network need theirs.

    One more was measured to cost a fifth of the requests per second: threads of one interpreter wait for each other.
    """
    work_in_callers_thread()
    return ThreadPoolExecutor(max(allowed_cpus() // 2, 1), "host")
