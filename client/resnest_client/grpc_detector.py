"""A detector in Triton, over gRPC."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, closing
from functools import partial
from typing import Any, TypeVar

from anyio.from_thread import BlockingPortalProvider

from resnest_client.async_grpc_detector import URL, AsyncGrpcDetector
from resnest_client.client_limits import GRPC_MAX_CONCURRENCY, RETRIES, TIMEOUT
from resnest_client.concurrency import in_order_of
from resnest_core.closeable import Closeable
from resnest_core.detections import Detections
from resnest_core.images import Image

T = TypeVar("T")

PORTALS = BlockingPortalProvider()  # one event loop, on a thread, for all detectors that are open


class GrpcDetector(Closeable):
    """Detects objects through the Triton at `url`; a context manager, for use from several threads.

    `AsyncGrpcDetector` does the work, in an event loop on a thread of its own. Where Triton is away or its queue full,
    the request is sent again, after a random time that grows.

    Args:
        url: of Triton's gRPC port, such as `grpc://localhost:8001`.
        model: name of a detector's ensemble; None: the first of them.
        timeout: seconds after which a request fails, those between attempts included.
        retries: how many times at most a request is sent again.
        max_concurrency: requests that are in flight at a time.

    Raises:
        ParameterError: the address isn't one of gRPC, or another argument is outside what it may be.
        ModelNotFoundError: Triton has no such model, or none of ours.
        InvalidModelError: the model isn't the ensemble of a detector, or one of another version.
        RuntimeUnavailableError: Triton can't be reached.
        RemoteError: what answers there isn't Triton.
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

        Raises, besides what is said there:
            RuntimeUnavailableError: Triton can't be reached, or can't answer in time.
            ModelNotFoundError: the model isn't there any more.
            RemoteError: the model failed, or its answer makes no sense.
        """
        return _result(self._start(self._detector.detect, image, score_threshold=score_threshold, masks=masks))

    def detect_many(
        self, images: Iterable[Image], *, score_threshold: float | None = None, masks: bool = True
    ) -> Iterator[Detections]:
        """Yield each image's detections, in order, with up to `max_concurrency` requests in flight.

        Raises:
            What `detect` raises, in the place of the first image that fails. Those after it are cancelled.
        """
        start = partial(self._start, self._detector.detect, score_threshold=score_threshold, masks=masks)
        with closing(in_order_of(start, images, self._detector.max_concurrency)) as results:
            for result in results:
                yield result()

    def close(self) -> None:
        """Cancel what is in flight, and close the connection."""
        self._stack.close()

    def _start(self, work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any, **options: Any) -> Future[T]:
        return self._portal.start_task_soon(partial(work, *arguments, **options))


def _result(future: Future[T]) -> T:
    """Wait for a task's result; whoever stops waiting cancels it."""
    try:
        return future.result()
    finally:
        future.cancel()
