"""Synchronous client of the HTTP gateway."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import TypeVar

import httpx
from tenacity import Retrying

from resnest_client.client_limits import MAX_CONCURRENCY, RETRIES, TIMEOUT
from resnest_client.concurrency import in_order
from resnest_client.gateway_protocol import GatewayProtocol, GatewayRequest
from resnest_client.retries import policy
from resnest_core.detections import Detections
from resnest_core.detector import Detector
from resnest_core.errors import NotOpenError
from resnest_core.images import Color, Image

T = TypeVar("T")


class HttpDetector(Detector):
    """Detects objects through the gateway at `url`; a context manager; thread-safe.

    See `resnest_core.detector.Detector` for `detect` and `detect_many`. Encoded images are sent as they are, pixels as
    PNG. Connections are kept alive. If a connection fails or breaks, or the server answers 429, 502, 503 or 504, the
    request is retried after the server's `Retry-After`, if any, plus an exponential random back-off.

    Args:
        url: the gateway's address, such as `http://localhost:8000`.
        model: name of the model; None: the server's default model.
        api_key: API key; None: the environment variable RESNEST_API_KEY, if set.
        timeout: seconds without progress after which a request fails.
        retries: maximum number of retries per request.
        max_concurrency: maximum number of requests of `detect_many` in flight.
        transport: transport for httpx, for tests.

    Raises:
        ParameterError: the address isn't an HTTP address, or another argument is out of range.
        ModelNotFoundError: the server has no such model.
        AccessError: the key is missing, unknown or rate-limited.
        RuntimeUnavailableError: the server can't be reached.
        RemoteError: the server at this address isn't the gateway.
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

    def _detect(self, image: Image, score_threshold: float | None, masks: bool, color: Color) -> Detections:
        return self._ask(self._protocol.detections(image, self.card, score_threshold, masks, color))

    def _start_many(
        self, images: Iterable[Image], batch_size: int | None, score_threshold: float | None, masks: bool, color: Color
    ) -> Generator[Callable[[], Detections], None, None]:
        detect = partial(self._detect, score_threshold=score_threshold, masks=masks, color=color)
        return in_order(detect, images, min(batch_size or self._max_concurrency, self._max_concurrency))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _ask(self, question: GatewayRequest[T]) -> T:
        if self._client.is_closed:
            raise NotOpenError("This detector is closed: make a new one.")
        try:
            response = Retrying(**self._policy)(self._client.request, **question.arguments)
        except httpx.HTTPError as error:
            raise self._protocol.unreachable(error) from error
        return question.read(response)
