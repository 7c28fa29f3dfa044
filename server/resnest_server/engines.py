"""An engine runs one model for the gateway; `LocalEngine` runs it in this process, with a queue in front."""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

from opentelemetry import trace

from resnest_core.card import ModelCard
from resnest_core.detections import Detections
from resnest_core.detector import InProcessDetector
from resnest_core.errors import RuntimeUnavailableError
from resnest_core.images import decode_image
from resnest_core.messages import shortened
from resnest_core.preprocess import PreparedImage, prepare
from resnest_server.batching import Batcher, Inference, InferenceError
from resnest_server.encoded_image import EncodedImage
from resnest_server.host_threads import HostThreads
from resnest_server.in_flight import InFlightLimit
from resnest_server.model_health import PROBE_PIXELS, ModelHealth
from resnest_server.parameters import DetectOptions
from resnest_server.settings import Settings
from resnest_server.timings import Timings

POLL_SECONDS = 1.0  # between looks at a network that has failed
RELOAD_SECONDS = 30.0  # at least, between times that it is loaded again

log = logging.getLogger(__name__)
tracer = trace.get_tracer("resnest_server")


class EngineResult(NamedTuple):
    """The detections of one image; `batch_size` is how many images ran together, if known."""

    detections: Detections
    batch_size: int | None


class Engine(ABC):
    """One served model: its name, card, runtime and device. Used on one event loop.

    Attributes:
        name: the model's name in the repository, and in the gateway's routes, metrics and log.
        card: the model's card; its name is `name`.
        runtime: what runs the network, such as `openvino`, or `triton`.
        device: where the runtime says that it runs: `cpu`, `cuda:0`, or `triton`.
        load_seconds: how long loading took; None: it was loaded elsewhere.
        in_flight: how many images it has accepted and not answered, and the limit.
    """

    def __init__(
        self, card: ModelCard, runtime: str, device: str, settings: Settings, load_seconds: float | None = None
    ) -> None:
        self.name = card.name
        self.card = card
        self.runtime = runtime
        self.device = device
        self.load_seconds = load_seconds
        self.in_flight = InFlightLimit(card.name, settings.max_queue)

    @abstractmethod
    async def start(self, host: HostThreads) -> None:
        """Start; `host` has the threads that decode and encode."""

    @abstractmethod
    async def stop(self) -> None:
        """Stop, and close what was loaded; queued images are not run."""

    @abstractmethod
    def check_health(self) -> None:
        """Raise RuntimeUnavailableError, with the reason, if images aren't answered."""

    @property
    @abstractmethod
    def waiting(self) -> int:
        """Queued images."""

    @abstractmethod
    async def detect(self, encoded: EncodedImage, options: DetectOptions, timings: Timings) -> EngineResult:
        """Detect objects in an encoded image. Cancelled requests are dequeued.

        Raises:
            ImageError: the bytes are no image, or one that is damaged or too large.
            RuntimeUnavailableError: the runtime can't answer now.
            InferenceError: it failed.
        """


class LocalEngine(Engine):
    """Runs a network in this process.

    One that fails is tried on a test image. If it fails on that, it isn't ready until it answers again; `load`, if
    given, loads it anew. `instances` is how many batches it was loaded for, where the settings leave that open.
    """

    def __init__(
        self,
        detector: InProcessDetector,
        settings: Settings,
        load_seconds: float | None = None,
        load: Callable[[], InProcessDetector] | None = None,
        *,
        instances: int | None = None,
    ) -> None:
        super().__init__(detector.card, detector.runtime.name, detector.runtime.device, settings, load_seconds)
        self._settings = settings
        self._detector = detector
        self._load = load
        self._host: HostThreads | None = None
        self._health = ModelHealth(self.name)
        self._watcher: asyncio.Task[None] | None = None
        self._load_from = 0.0
        self._batcher = Batcher(
            detector,
            max_batch=settings.max_batch,
            max_wait=settings.max_wait_ms / 1000,
            instances=instances or settings.instances or 1,
        )

    async def start(self, host: HostThreads) -> None:
        self._host = host
        self._batcher.start()
        self._watcher = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        if self._watcher:
            self._watcher.cancel()
        await self._batcher.stop()
        self._detector.close()

    def check_health(self) -> None:
        seconds = self._batcher.busy_seconds()
        if seconds > 2 * self._settings.request_seconds:
            raise RuntimeUnavailableError(f"{self.name} has not answered for {seconds:.0f} s: restart this server.")
        self._health.check()

    @property
    def waiting(self) -> int:
        return self._batcher.waiting

    async def detect(self, encoded: EncodedImage, options: DetectOptions, timings: Timings) -> EngineResult:
        self._health.check()

        def decode() -> PreparedImage:
            with timings.stage("decode"):
                pixels = decode_image(encoded.data, max_pixels=self._settings.max_pixels)
            with timings.stage("resize"):
                return prepare(pixels, self.card)

        with tracer.start_as_current_span("decode"):
            assert self._host is not None
            image = await self._host.run(decode, encoded.pixels)
        with tracer.start_as_current_span("network", attributes={"model": self.name}) as span:
            ran = await self._run(image, options.score_threshold, options.want_masks)
            span.set_attribute("batch_size", ran.batch_size)
        timings.add("queue", ran.wait_seconds)
        timings.add("network", ran.network_seconds)
        return EngineResult(ran.detections, ran.batch_size)

    async def _run(self, image: PreparedImage, score_threshold: float, want_masks: bool) -> Inference:
        try:
            ran = await self._batcher.infer(image, score_threshold, want_masks)
        except InferenceError:
            self._health.failed()
            raise
        self._health.answered()
        return ran

    async def _watch(self) -> None:
        """Try a network that has failed on a test image, and load it anew where it fails on that."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if self._health.has_failed:
                try:
                    await self._probe()
                except Exception:  # the next round may succeed
                    log.exception("%s can't be tried.", self.name)

    async def _probe(self) -> None:
        try:
            await self._run(prepare(PROBE_PIXELS, self.card), 1.0, False)
        except InferenceError as error:
            self._health.probe_failed(shortened(error.__cause__))
            if self._load and time.monotonic() >= self._load_from:
                self._load_from = time.monotonic() + RELOAD_SECONDS
                log.warning("%s is loaded again.", self.name)
                # The old one isn't closed: a batch may still run on it. It goes with the last one that holds it.
                self._detector = self._batcher.detector = await asyncio.to_thread(self._load)
