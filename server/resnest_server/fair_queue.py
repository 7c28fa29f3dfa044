"""Bounds the pixels that are in work elsewhere; what waits is in a fair order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from resnest_server.fair_order import CLIENT, FairOrder


class FairQueue:
    """Gives jobs their turns; used on one event loop.

    Args:
        pixels: that the jobs may have together whose turn it is; one job alone may have more.
    """

    def __init__(self, pixels: int) -> None:
        self._limit = pixels
        self._order = FairOrder[asyncio.Future[None]]()

    @asynccontextmanager
    async def turn(self, pixels: int) -> AsyncIterator[None]:
        """Run the block when it is the turn of a job of CLIENT with so many pixels. Cancelled ones are dequeued."""
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        job = self._order.add(CLIENT.get(), pixels, begun)
        self._admit()
        try:
            await begun
            yield
        finally:
            if begun.cancelled():
                self._order.remove(job)
            else:  # also where it was cancelled before it could know that it had begun
                self._order.end(job)
            self._admit()

    def _admit(self) -> None:
        while job := self._order.first():
            if job.work.cancelled():
                self._order.remove(job)
            elif not self._order.fits(job, self._limit):
                return
            else:
                self._order.begin(job)
                job.work.set_result(None)
