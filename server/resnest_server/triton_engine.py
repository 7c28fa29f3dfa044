"""Models that Triton runs: encoded images go to their ensembles by gRPC."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from opentelemetry import propagate

from resnest_core import triton_ensemble
from resnest_core.card import ModelCard
from resnest_core.errors import ImageError, InvalidModelError, ModelNotFoundError, RuntimeUnavailableError
from resnest_core.messages import shortened
from resnest_server.encoded_image import EncodedImage
from resnest_server.engines import Engine, EngineResult, tracer
from resnest_server.fair_queue import FairQueue
from resnest_server.host_threads import HostThreads
from resnest_server.model_health import PROBE_IMAGE, ModelHealth
from resnest_server.parameters import DetectOptions
from resnest_server.settings import TRITON, Settings
from resnest_server.timings import Timings

POLL_SECONDS = 1.0  # between readiness checks
PATIENCE_SECONDS = 5.0  # time-out of a readiness check
PROBE_SECONDS = 10.0  # time-out of a test image, at least
PATIENCE = 10  # times the mean duration of requests, at least
ROUNDS = 4  # of gRPC's five attempts, which several Tritons share: one of them may refuse all that come to it
CHECKS = 3  # at a time, which several Tritons share: one of them may be starting, stopping or broken
FULL_QUEUE = "Exceeds maximum queue size"  # Triton's words

log = logging.getLogger(__name__)


def find_cards(settings: Settings) -> list[ModelCard]:
    """Return the cards of the models to serve: those that the settings name, or all that Triton has ready.

    Waits for Triton, and for the models named, as long as the settings allow.

    Raises:
        RuntimeUnavailableError: Triton can't be reached, or a model isn't ready.
        ModelNotFoundError: Triton has none of our models, or not one of those named.
        InvalidModelError: a model's tensors are not those that this version asks.
    """
    grpc = triton_ensemble.import_client()
    end = time.monotonic() + settings.triton_wait_seconds
    options = triton_ensemble.RETRYING_CHANNEL_OPTIONS
    with grpc.InferenceServerClient(settings.triton_url, channel_args=options) as client:
        while True:
            try:
                return _cards(client, settings)
            except (RuntimeUnavailableError, ModelNotFoundError) as error:
                if time.monotonic() > end:
                    raise
                log.info("%s Trying again.", error)
                time.sleep(POLL_SECONDS)


def _cards(client: Any, settings: Settings) -> list[ModelCard]:
    from tritonclient.utils import InferenceServerException

    try:
        ready = {model.name for model in client.get_model_repository_index().models if model.state == "READY"}
        if missing := sorted(set(settings.models) - ready):
            raise ModelNotFoundError(
                f"Triton at {settings.triton_url} has no model {', '.join(missing)} ready, only "
                f"{', '.join(sorted(ready)) or 'none'}: its log says why."
            )
        cards = []
        for name in settings.models or sorted(ready):
            card = triton_ensemble.read_card(client.get_model_config(name).config)
            if card is not None:
                triton_ensemble.check_tensors(client.get_model_metadata(name), card)
                cards.append(card)
            elif name in settings.models:
                raise InvalidModelError(f"Triton's model {name} is not the ensemble of a detector: name that one.")
    except InferenceServerException as error:
        raise RuntimeUnavailableError(
            f"Triton can't be reached at {settings.triton_url}: start it, or name its gRPC address with --triton-url."
        ) from error
    if not cards:
        raise ModelNotFoundError(
            f"Triton at {settings.triton_url} has none of this project's models: `resnest repository` makes them."
        )
    return cards


class TritonEngine(Engine):
    """Sends encoded images to a model's ensemble, in one Triton or in several that take turns.

    What a Triton refuses, or doesn't finish because it ends, is sent again: by gRPC (RETRIES in `triton_ensemble`), and
    by `_infer` while a Triton stops or loads the model, as gRPC makes no more than five attempts.
    """

    def __init__(self, card: ModelCard, settings: Settings) -> None:
        super().__init__(card, TRITON, TRITON, settings)
        self._url = settings.triton_url
        self._seconds = settings.request_seconds
        self._turns = FairQueue(settings.max_decoding_pixels)  # Triton has one queue for everybody
        self._client: Any = None
        self._watcher: asyncio.Task[None] | None = None
        self._trouble: str | None = None
        self._health = ModelHealth(card.name)

    async def start(self, host: HostThreads) -> None:  # noqa: ARG002 - Triton decodes
        from tritonclient.grpc.aio import InferenceServerClient

        self._client = InferenceServerClient(self._url, channel_args=triton_ensemble.RETRYING_CHANNEL_OPTIONS)
        self._watcher = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        if self._watcher:
            self._watcher.cancel()
        await self._client.close()

    def check_health(self) -> None:
        if self._trouble:
            raise RuntimeUnavailableError(self._trouble)
        self._health.check()

    @property
    def waiting(self) -> int:
        return self.in_flight.count

    async def detect(self, encoded: EncodedImage, options: DetectOptions, timings: Timings) -> EngineResult:
        self._health.check()
        async with self._turns.turn(encoded.pixels):
            with timings.stage("triton"), tracer.start_as_current_span("triton", attributes={"model": self.name}):
                result = await self._infer(encoded.data, options.score_threshold, options.want_masks, self._seconds)
                return EngineResult(triton_ensemble.read_result(result, options.want_masks, self.card), None)

    async def _infer(self, data: bytes, score_threshold: float, want_masks: bool, seconds: float) -> Any:
        from tritonclient.utils import InferenceServerException

        headers: dict[str, str] = {}
        propagate.inject(headers)
        inputs = triton_ensemble.make_inputs(data, score_threshold, want_masks, self.card)
        outputs = triton_ensemble.make_outputs(want_masks, self.card)
        start, left = time.monotonic(), seconds
        for rounds in range(ROUNDS, 0, -1):
            try:
                result = await self._client.infer(
                    self.name, inputs, outputs=outputs, headers=headers, timeout=int(left * 1e6), client_timeout=left
                )
            except InferenceServerException as error:
                left = seconds - (time.monotonic() - start)
                if rounds == 1 or left <= 0 or not triton_ensemble.is_refused_for_now(error):
                    raise self._meaning(error) from error
            else:
                break
        self._health.answered(time.monotonic() - start)
        return result

    def _meaning(self, error: Exception) -> Exception:
        """Return what an error of Triton means here; one that isn't the image's fault is logged with Triton's words."""
        meaning = triton_ensemble.read_error(error, self.name, self._url)
        if isinstance(meaning, ImageError):
            self._health.answered()
            return meaning
        log.error("%s: Triton says: %s", self.name, shortened(error))
        if isinstance(meaning, RuntimeUnavailableError | ModelNotFoundError):
            return RuntimeUnavailableError(f"{self.name} is away in Triton: try again later.")
        self._health.failed()
        return RuntimeUnavailableError(f"{self.name} fails in Triton: try again later.")

    async def _watch(self) -> None:
        """Check periodically whether the model is ready."""
        while True:
            trouble = await self._readiness()
            if trouble != self._trouble:
                log.warning("%s", trouble or f"Triton has {self.name} ready again.")
                self._trouble = trouble
            if not trouble and self._health.needs_probe(self.in_flight.count):
                await self._probe()
            await asyncio.sleep(POLL_SECONDS)

    async def _readiness(self) -> str | None:
        """Return why no Triton that was asked has the model ready; None: one has."""
        ask = self._client.is_model_ready
        checks = [ask(self.name, client_timeout=PATIENCE_SECONDS) for _ in range(CHECKS)]
        answers = await asyncio.gather(*checks, return_exceptions=True)  # any failure: the next check may succeed
        log.debug("%s: %s", self.name, answers)
        if True in answers:
            return None
        if False in answers:
            return f"Triton at {self._url} has {self.name} not ready."
        return f"Triton at {self._url} doesn't answer."

    async def _probe(self) -> None:
        """Send an image that is known to be good; a busy model gets longer to answer it."""
        seconds = max(PROBE_SECONDS, PATIENCE * self._health.mean_seconds)
        start = time.monotonic()
        failures = await asyncio.gather(*(self._probe_one(seconds) for _ in range(CHECKS)))
        causes = [cause for cause in failures if cause is not None]
        has_answered_others = self._health.silent_seconds < time.monotonic() - start
        if len(causes) == CHECKS and not any(FULL_QUEUE in cause for cause in causes) and not has_answered_others:
            self._health.probe_failed(causes[0])

    async def _probe_one(self, seconds: float) -> str | None:
        """Return why a Triton fails on the test image; None: it answers."""
        try:
            await self._infer(PROBE_IMAGE, 1.0, False, seconds)
        except ImageError:
            return None  # too narrow for this model, which has answered
        except Exception as error:  # any failure: the next probe may succeed
            return shortened(error.__cause__ or error)
        return None
