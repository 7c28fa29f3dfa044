"""Synchronous gRPC client of a detector in Triton."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, closing
from functools import partial
from typing import Any, TypeVar

from anyio.from_thread import BlockingPortalProvider

from resnest_client.async_grpc_detector import AsyncGrpcDetector
from resnest_client.client_limits import GRPC_MAX_CONCURRENCY, RETRIES, TIMEOUT
from resnest_client.concurrency import in_order_of
from resnest_core.closeable import Closeable
from resnest_core.detections import Detections
from resnest_core.grpc_address import URL
from resnest_core.images import Image

T = TypeVar("T")

PORTALS = BlockingPortalProvider()  # one event loop, in a thread, shared by all open detectors


class GrpcDetector(Closeable):
    """Detects objects through the Triton at `url`; a context manager; thread-safe.

    Wraps `AsyncGrpcDetector`, which runs in an event loop in a separate thread. If Triton is unreachable or its queue
    is full, the request is retried with exponential random back-off.

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
        with ExitStack() as stack:
            self._portal = stack.enter_context(PORTALS)
            _result(self._start(self._detector.open))
            stack.callback(lambda: _result(self._start(self._detector.close)))
            self._stack = stack.pop_all()
        self.card = self._detector.card

    def detect(self, image: Image, *, score_threshold: float | None = None, masks: bool = True) -> Detections:
        """See `resnest_core.detector.Detector.detect`; encoded images are sent as they are, pixels as PNG.

        Raises, in addition to the errors of `Detector.detect`:
            RuntimeUnavailableError: Triton can't be reached, or doesn't answer in time.
            ModelNotFoundError: the model has been removed.
            RemoteError: the model failed, or its response is invalid.
        """
        return _result(self._start(self._detector.detect, image, score_threshold=score_threshold, masks=masks))

    def detect_many(
        self, images: Iterable[Image], *, score_threshold: float | None = None, masks: bool = True
    ) -> Iterator[Detections]:
        """Yield each image's detections, in order, with up to `max_concurrency` requests in flight.

        Raises:
            ResNeStError: the errors of `detect`, at the first image that fails; later requests are cancelled.
        """
        start = partial(self._start, self._detector.detect, score_threshold=score_threshold, masks=masks)
        with closing(in_order_of(start, images, self._detector.max_concurrency)) as results:
            for result in results:
                yield result()

    def close(self) -> None:
        """Cancel requests in flight, and close the connection."""
        self._stack.close()

    def _start(self, work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any, **options: Any) -> Future[T]:
        return self._portal.start_task_soon(partial(work, *arguments, **options))


def _result(future: Future[T]) -> T:
    """Wait for a task's result; an interrupted wait cancels the task."""
    try:
        return future.result()
    finally:
        future.cancel()
