"""Concurrent processing of items with results in input order and bounded read-ahead."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 2  # items read per worker, so that one slow item doesn't leave the other workers idle


def in_order(work: Callable[[T], R], items: Iterable[T], limit: int) -> Generator[Callable[[], R], None, None]:
    """Process items in `limit` threads; yield for each item a function that waits for its result or raises its error.

    With a limit of 1 there are no threads: the function processes the item.
    """
    if limit == 1:
        yield from (partial(work, item) for item in items)
        return
    with ThreadPoolExecutor(limit) as pool:
        yield from in_order_of(lambda item: pool.submit(work, item), items, limit)


def in_order_of(
    start: Callable[[T], Future[R]], items: Iterable[T], limit: int
) -> Generator[Callable[[], R], None, None]:
    """Like `in_order` for futures returned by `start`, which enforces `limit`; pending ones are cancelled at exit."""
    window: deque[Future[R]] = deque()
    try:
        for item in items:
            window.append(start(item))
            if len(window) == AHEAD * limit:
                yield window.popleft().result
        while window:
            yield window.popleft().result
    finally:
        for future in window:
            future.cancel()


async def in_order_async(
    work: Callable[[T], Awaitable[R]], items: Iterable[T] | AsyncIterable[T], limit: int
) -> AsyncGenerator[R, None]:
    """Yield each item's result; `work` must enforce `limit`. Pending tasks are cancelled at exit."""
    window: deque[asyncio.Future[R]] = deque()
    try:
        async for item in each(items):
            window.append(asyncio.ensure_future(work(item)))
            if len(window) == AHEAD * limit:
                yield await window.popleft()
        while window:
            yield await window.popleft()
    finally:
        for future in window:
            future.cancel()
        await asyncio.gather(*window, return_exceptions=True)


async def each(items: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    """Yield the items of either kind of iterable."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
