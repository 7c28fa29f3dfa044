"""Base class of the asynchronous HTTP and gRPC clients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import aclosing
from functools import partial

from typing_extensions import Self

from resnest_client.concurrency import in_order_async
from resnest_core.card import ModelCard
from resnest_core.detections import Detections
from resnest_core.images import Image


class AsyncDetector(ABC):
    """Detects objects through a server: `async with detector`, or `open` and `close`."""

    card: ModelCard
    """The model's card; set by `open`."""

    def __init__(self, max_concurrency: int) -> None:
        self.max_concurrency = max_concurrency

    @abstractmethod
    async def read_card(self) -> ModelCard:
        """Request the model's card from the server."""

    @abstractmethod
    async def detect(self, image: Image, *, score_threshold: float | None = None, masks: bool = True) -> Detections:
        """Detect objects in one image, with no more than `max_concurrency` requests in flight at a time."""

    @abstractmethod
    async def close(self) -> None:
        """Close the connections."""

    async def open(self) -> Self:
        """Request the model's card."""
        try:
            self.card = await self.read_card()
        except BaseException:
            await self.close()
            raise
        return self

    async def detect_many(
        self,
        images: Iterable[Image] | AsyncIterable[Image],
        *,
        score_threshold: float | None = None,
        masks: bool = True,
    ) -> AsyncIterator[Detections]:
        """Yield each image's detections, in order.

        Raises:
            ResNeStError: the errors of `detect`, at the first image that fails; later requests are cancelled.
        """
        detect = partial(self.detect, score_threshold=score_threshold, masks=masks)
        async with aclosing(in_order_async(detect, images, self.max_concurrency)) as results:
            async for found in results:
                yield found

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.close()
