"""A detector behind the HTTP gateway."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial
from typing import TypeVar

import httpx
from tenacity import Retrying

from resnest_client.client_limits import MAX_CONCURRENCY, RETRIES, TIMEOUT
from resnest_client.concurrency import in_order
from resnest_client.gateway_protocol import GatewayProtocol, GatewayRequest
from resnest_client.retries import policy
from resnest_core.closeable import Closeable
from resnest_core.detections import Detections
from resnest_core.images import Image

T = TypeVar("T")


class HttpDetector(Closeable):
    """Detects objects through the gateway at `url`; a context manager, for use from several threads.

    Connections are kept and used again. Where one fails or breaks, and where the server answers 429, 502, 503 or 504,
    the request is sent again, after a random time that grows, or what the server's `Retry-After` says and that.

    Args:
        url: such as `http://localhost:8000`.
        model: None: the server's default one.
        api_key: None: that of the environment variable RESNEST_API_KEY, if there is one.
        timeout: seconds without progress after which a request fails.
        retries: how many times at most a request is sent again.
        max_concurrency: requests that `detect_many` has in flight at a time.
        transport: httpx's, for tests.

    Raises:
        ParameterError: the address isn't one of HTTP, or another argument is outside what it may be.
        ModelNotFoundError: the server has no such model.
        AccessError: the key is missing or unknown, or asks too often.
        RuntimeUnavailableError: the server can't be reached.
        RemoteError: what answers there isn't the gateway.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = TIMEOUT,
        retries: int = RETRIES,
        max_concurrency: int = MAX_CONCURRENCY,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._protocol = GatewayProtocol(url, api_key)
        self._policy = policy(retries)
        self._max_concurrency = max_concurrency
        self._client = httpx.Client(**self._protocol.client_options(timeout, max_concurrency), transport=transport)
        try:
            self.served = self._ask(self._protocol.served_model(model))
            self.card = self.served.card
        except BaseException:
            self.close()
            raise

    def detect(self, image: Image, *, score_threshold: float | None = None, masks: bool = True) -> Detections:
        """See `resnest_core.detector.Detector.detect`; encoded images are sent as they are, pixels as PNG.

        Raises, besides what is said there:
            AccessError: the key isn't known any more, or asks too often.
            RuntimeUnavailableError: the server can't be reached, or is full.
            RemoteError: the server's answer makes no sense.
        """
        return self._ask(self._protocol.detections(image, self.card, score_threshold, masks))

    def detect_many(
        self, images: Iterable[Image], *, score_threshold: float | None = None, masks: bool = True
    ) -> Iterator[Detections]:
        """Yield each image's detections, in order, with up to `max_concurrency` requests in flight.

        Raises:
            What `detect` raises, in the place of the first image that fails. Those after it aren't asked for any more.
        """
        detect = partial(self.detect, score_threshold=score_threshold, masks=masks)
        with closing(in_order(detect, images, self._max_concurrency)) as results:
            for result in results:
                yield result()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _ask(self, question: GatewayRequest[T]) -> T:
        try:
            response = Retrying(**self._policy)(self._client.request, **question.arguments)
        except httpx.HTTPError as error:
            raise self._protocol.unreachable(error) from error
        return question.read(response)
