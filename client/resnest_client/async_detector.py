"""Base class of the asynchronous HTTP and gRPC clients."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from functools import partial
from typing import Any, Literal, overload

from typing_extensions import Self

from resnest_client.concurrency import each, in_order_async
from resnest_core.card import ModelCard
from resnest_core.detections import Detections
from resnest_core.detector import OnError, checked_many, checked_threshold
from resnest_core.errors import NotOpenError, ResNeStError
from resnest_core.images import Color, Image, Pixels
from resnest_core.large_images import PixelSource, open_pixels
from resnest_core.tiles import Tiles, Window, merged


class AsyncDetector(ABC):
    """Detects objects through a server: `async with detector`, or `open` and `close`."""

    def __init__(self, max_concurrency: int) -> None:
        self.max_concurrency = max_concurrency
        self._card: ModelCard | None = None
        self._is_open = False

    @property
    def card(self) -> ModelCard:
        """The model's card.

        Raises:
            NotOpenError: the detector was never opened.
        """
        if self._card is None:
            raise self._not_open()
        return self._card

    @abstractmethod
    async def read_card(self) -> ModelCard:
        """Request the model's card from the server."""

    @abstractmethod
    async def _detect(self, image: Image, score_threshold: float | None, masks: bool, color: Color) -> Detections:
        """Detect objects in one image, with no more than `max_concurrency` requests in flight at a time."""

    @abstractmethod
    async def _close(self) -> None:
        """Close the connections."""

    async def open(self) -> Self:
        """Request the model's card."""
        try:
            self._card = await self.read_card()
        except BaseException:
            await self.close()
            raise
        self._is_open = True
        return self

    async def close(self) -> None:
        """Close the connections."""
        self._is_open = False
        await self._close()

    async def detect(
        self,
        image: Image,
        *,
        score_threshold: float | None = None,
        masks: bool = True,
        color: Color = "rgb",
        tiles: Tiles | None = None,
    ) -> Detections:
        """See `resnest_core.detector.Detector.detect`. Cancelling the task cancels the request.

        Raises, in addition to the errors of that and of the synchronous client:
            NotOpenError: the detector isn't open.
        """
        self._check_open()
        checked_threshold(score_threshold, self.card)
        if tiles is None:
            found = await self._detect(image, score_threshold, masks, color)
        else:
            found = await self._in_tiles(image, tiles, score_threshold, masks, color)
        return replace(found, card=self.card, image=image, color=color)

    @overload
    def detect_many(
        self,
        images: Iterable[Image] | AsyncIterable[Image],
        *,
        batch_size: int | None = None,
        on_error: Literal["raise"] = "raise",
        score_threshold: float | None = None,
        masks: bool = True,
        color: Color = "rgb",
    ) -> AsyncIterator[Detections]: ...
    @overload
    def detect_many(
        self,
        images: Iterable[Image] | AsyncIterable[Image],
        *,
        batch_size: int | None = None,
        on_error: OnError,
        score_threshold: float | None = None,
        masks: bool = True,
        color: Color = "rgb",
    ) -> AsyncIterator[Detections | ResNeStError]: ...
    def detect_many(
        self,
        images: Iterable[Image] | AsyncIterable[Image],
        *,
        batch_size: int | None = None,
        on_error: OnError = "raise",
        score_threshold: float | None = None,
        masks: bool = True,
        color: Color = "rgb",
    ) -> AsyncIterator[Detections | ResNeStError]:
        """See `resnest_core.detector.Detector.detect_many`; with an error later requests are cancelled.

        Raises, in addition to the errors of that:
            NotOpenError: the detector isn't open.
        """
        self._check_open()
        checked_many(batch_size, on_error)
        checked_threshold(score_threshold, self.card)
        limit = min(batch_size or self.max_concurrency, self.max_concurrency)
        work = partial(self.limited(limit), score_threshold=score_threshold, masks=masks, color=color)
        return self._yielded(images, work, limit, on_error, color)

    def limited(self, limit: int) -> Callable[..., Coroutine[Any, Any, Detections]]:
        """Return `detect` on one image for at most `limit` callers at a time: arguments are those of `_detect`."""
        places = asyncio.Semaphore(limit)

        async def detect(image: Image, score_threshold: float | None, masks: bool, color: Color) -> Detections:
            async with places:
                return await self._detect(image, score_threshold, masks, color)

        return detect

    async def _yielded(
        self,
        images: Iterable[Image] | AsyncIterable[Image],
        work: Callable[[Image], Coroutine[Any, Any, Detections]],
        limit: int,
        on_error: OnError,
        color: Color,
    ) -> AsyncIterator[Detections | ResNeStError]:
        sources: deque[Image] = deque()  # of the images that are read ahead

        async def remembered() -> AsyncIterator[Image]:
            async for image in each(images):
                sources.append(image)
                yield image

        async def caught(image: Image) -> Detections | ResNeStError:
            try:
                return await work(image)
            except ResNeStError as error:
                if on_error == "raise":
                    raise
                return error

        async with aclosing(in_order_async(caught, remembered(), limit)) as results:
            async for result in results:
                image = sources.popleft()
                if isinstance(result, ResNeStError):
                    yield result
                else:
                    yield replace(result, card=self.card, image=image, color=color)

    async def _in_tiles(
        self, image: Image, tiles: Tiles, score_threshold: float | None, masks: bool, color: Color
    ) -> Detections:
        """Detect in windows; decoding, reading and merging run in threads."""
        async with AsyncExitStack() as stack:
            pixels = await asyncio.to_thread(_entered, open_pixels(image, color), stack)
            windows = tiles.windows(pixels.size_hw)
            parts = [
                part
                async for part in self.detect_many(_read(pixels, windows), score_threshold=score_threshold, masks=masks)
            ]
        return await asyncio.to_thread(merged, zip(windows, parts, strict=True), pixels.size_hw, self.card)

    def _check_open(self) -> None:
        if not self._is_open:
            raise self._not_open()

    def _not_open(self) -> NotOpenError:
        return NotOpenError(f"This detector isn't open: use `async with {type(self).__name__}(…) as detector`.")

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _entered(source: Any, stack: AsyncExitStack) -> PixelSource:
    opened: PixelSource = stack.enter_context(source)
    return opened


async def _read(pixels: PixelSource, windows: Iterable[Window]) -> AsyncIterator[Pixels]:
    for window in windows:
        yield await asyncio.to_thread(pixels.read, window)
