"""Synchronous gRPC client of a detector in Triton."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterable
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeVar

from anyio.from_thread import BlockingPortalProvider

from resnest_client.async_grpc_detector import AsyncGrpcDetector
from resnest_client.client_limits import GRPC_MAX_CONCURRENCY, RETRIES, TIMEOUT
from resnest_client.concurrency import in_order_of
from resnest_core.detections import Detections
from resnest_core.detector import Detector
from resnest_core.errors import NotOpenError
from resnest_core.grpc_address import URL
from resnest_core.images import Color, Image

T = TypeVar("T")

PORTALS = BlockingPortalProvider()  # one event loop, in a thread, shared by all open detectors


class GrpcDetector(Detector):
    """Detects objects through the Triton at `url`; a context manager; thread-safe.

    See `resnest_core.detector.Detector` for `detect` and `detect_many`. Encoded images are sent as they are, pixels as
    PNG. Wraps `AsyncGrpcDetector`, which runs in an event loop in a separate thread. If Triton is unreachable or its
    queue is full, the request is retried with exponential random back-off.

    Args:
        url: address of Triton's gRPC port, such as `grpc://localhost:8001`; proxies in the environment are not used.
        model: name of a detector's ensemble; None: the first one.
        timeout: seconds after which a request fails, including all retries.
        retries: maximum number of retries per request.
        max_concurrency: maximum number of requests in flight.

    Raises:
        ParameterError: the address isn't a gRPC address, or another argument is out of range.
        ModelNotFoundError: Triton has no such model, or no model of this project.
        InvalidModelError: the model isn't a detector's ensemble, or is of another version.
        RuntimeUnavailableError: Triton can't be reached.
        RemoteError: the server at this address isn't Triton.
        MissingExtraError: tritonclient isn't installed.
    """

    def __init__(
        self,
        url: str = URL,
        model: str | None = None,
        *,
        timeout: float = TIMEOUT,
        retries: int = RETRIES,
        max_concurrency: int = GRPC_MAX_CONCURRENCY,
    ) -> None:
        self._detector = AsyncGrpcDetector(
            url, model, timeout=timeout, retries=retries, max_concurrency=max_concurrency
        )
        self._is_closed = False
        with ExitStack() as stack:
            self._portal = stack.enter_context(PORTALS)
            _result(self._start(self._detector.open))
            stack.callback(lambda: _result(self._portal.start_task_soon(self._detector.close)))
            self._stack = stack.pop_all()
        self.card = self._detector.card

    def _detect(self, image: Image, score_threshold: float | None, masks: bool, color: Color) -> Detections:
        detect = self._detector.detect
        return _result(self._start(detect, image, score_threshold=score_threshold, masks=masks, color=color))

    def _start_many(
        self, images: Iterable[Image], batch_size: int | None, score_threshold: float | None, masks: bool, color: Color
    ) -> Generator[Callable[[], Detections], None, None]:
        limit = min(batch_size or self._detector.max_concurrency, self._detector.max_concurrency)
        detect = self._detector.limited(limit)
        start = partial(self._start, detect, score_threshold=score_threshold, masks=masks, color=color)
        return in_order_of(start, images, limit)

    def close(self) -> None:
        """Cancel requests in flight, and close the connection."""
        self._is_closed = True
        self._stack.close()

    def _start(self, work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any, **options: Any) -> Future[T]:
        if self._is_closed:
            raise NotOpenError("This detector is closed: make a new one.")
        return self._portal.start_task_soon(partial(work, *arguments, **options))


def _result(future: Future[T]) -> T:
    """Wait for a task's result; an interrupted wait cancels the task."""
    try:
        return future.result()
    finally:
        future.cancel()
