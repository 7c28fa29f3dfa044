"""Asynchronous client of the HTTP gateway."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import httpx
from tenacity import AsyncRetrying

from resnest_client.async_detector import AsyncDetector
from resnest_client.client_limits import MAX_CONCURRENCY, RETRIES, TIMEOUT
from resnest_client.gateway_protocol import GatewayProtocol, GatewayRequest
from resnest_client.retries import policy
from resnest_core.card import ModelCard
from resnest_core.detections import Detections
from resnest_core.images import Color, Image

T = TypeVar("T")


class AsyncHttpDetector(AsyncDetector):
    """Detects objects through the gateway at `url`: `async with AsyncHttpDetector(url) as detector`.

    Arguments and errors are those of `HttpDetector`, but `max_concurrency` limits all requests in flight, and the
    client connects only on `async with` or `open`. Cancelling a task closes its connection, and the server drops the
    request.
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
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(max_concurrency)
        self._protocol = GatewayProtocol(url, api_key)
        self._model = model
        self._policy = policy(retries)
        options = self._protocol.client_options(timeout, max_concurrency)
        self._client = httpx.AsyncClient(**options, transport=transport)
        self._places = asyncio.Semaphore(max_concurrency)

    async def read_card(self) -> ModelCard:
        return (await self._ask(self._protocol.served_model(self._model))).card

    async def _detect(self, image: Image, score_threshold: float | None, masks: bool, color: Color) -> Detections:
        async with self._places:
            # In a thread, because this reads or encodes the image.
            question = await asyncio.to_thread(
                self._protocol.detections, image, self.card, score_threshold, masks, color
            )
            return await self._ask(question)

    async def _close(self) -> None:
        await self._client.aclose()

    async def _ask(self, question: GatewayRequest[T]) -> T:
        try:
            response: httpx.Response = await AsyncRetrying(**self._policy)(self._client.request, **question.arguments)
        except httpx.HTTPError as error:
            raise self._protocol.unreachable(error) from error
        return question.read(response)
