"""The threads that decode images and encode answers, shared fairly between clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from resnest_core.cpus import share_of_cpus
from resnest_core.threads import work_in_callers_thread
from resnest_server.fair_queue import FairQueue

T = TypeVar("T")


class HostThreads:
    """Threads for work on images: one for two CPUs, as the event loop and the network need theirs.

    One more was measured to cost a fifth of the requests per second: the threads contend for the interpreter lock.

    Args:
        pixels: limit of the images being worked on at a time; a larger one is worked on alone.
        threads: None: as above.
    """

    def __init__(self, pixels: int, threads: int | None = None) -> None:
        work_in_callers_thread()
        self.count = threads or share_of_cpus(2)
        self._threads = ThreadPoolExecutor(self.count, "host")
        self._queue = FairQueue(pixels, self.count)

    async def run(self, work: Callable[[], T], pixels: int) -> T:
        """Return what the work on an image of so many pixels returns. Cancelled before it began, it isn't done."""
        job = await self._queue.take(pixels)
        try:
            future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        except BaseException:
            self._queue.release(job)
            raise
        future.add_done_callback(lambda _: self._queue.release(job))
        # Shielded: a thread can't be cancelled, and has its turn until it is done.
        return await asyncio.shield(future)

    def close(self) -> None:
        """Begin no more work; what runs isn't waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
