"""A detector behind the HTTP gateway, for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import aclosing
from functools import partial
from typing import TypeVar

import httpx
from tenacity import AsyncRetrying
from typing_extensions import Self

from resnest_client.concurrency import in_order_async
from resnest_client.exchange import MAX_CONCURRENCY, TIMEOUT, Exchange, Question
from resnest_client.retries import RETRIES, policy
from resnest_core.card import ModelCard
from resnest_core.detections import Detections
from resnest_core.images import Image

T = TypeVar("T")


class AsyncHttpDetector:
    """Detects objects through the gateway at `url`: `async with AsyncHttpDetector(url) as detector`.

    The arguments are those of `HttpDetector`, and so are the errors; but `max_concurrency` bounds all requests that are
    in flight at a time, and the server is asked nothing before the `async with`, or `open`.
    """

    card: ModelCard
    """The model's; there from `open` on."""

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
        self._exchange = Exchange(url, api_key)
        self._model = model
        self._policy = policy(retries)
        self._max_concurrency = max_concurrency
        options = self._exchange.client_options(timeout, max_concurrency)
        self._client = httpx.AsyncClient(**options, transport=transport)
        self._places = asyncio.Semaphore(max_concurrency)

    async def open(self) -> Self:
        """Ask for the model's card."""
        try:
            self.card = await self._ask(self._exchange.card(self._model))
        except BaseException:
            await self.close()
            raise
        return self

    async def detect(self, image: Image, *, score_threshold: float | None = None, masks: bool = True) -> Detections:
        """See `HttpDetector.detect`. Cancelled, it closes its connection, and the server lets go of the request."""
        async with self._places:
            # On a thread: an image is read from a file, or encoded.
            question = await asyncio.to_thread(self._exchange.detections, image, self.card, score_threshold, masks)
            return await self._ask(question)

    async def detect_many(
        self,
        images: Iterable[Image] | AsyncIterable[Image],
        *,
        score_threshold: float | None = None,
        masks: bool = True,
    ) -> AsyncIterator[Detections]:
        """Yield each image's detections, in order.

        Raises:
            What `detect` raises, in the place of the first image that fails. Those after it are cancelled.
        """
        detect = partial(self.detect, score_threshold=score_threshold, masks=masks)
        async with aclosing(in_order_async(detect, images, self._max_concurrency)) as results:
            async for found in results:
                yield found

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _ask(self, question: Question[T]) -> T:
        try:
            response: httpx.Response = await AsyncRetrying(**self._policy)(self._client.request, **question.arguments)
        except httpx.HTTPError as error:
            raise self._exchange.unreachable(error) from error
        return question.read(response)
