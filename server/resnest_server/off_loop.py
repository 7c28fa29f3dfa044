"""Work whose cost grows with what a client sends, on threads of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

INLINE_BYTES = 64 * 1024  # up to here the work is shorter than the change of threads
COPIED_INLINE_BYTES = 256 * 1024  # of work that only copies
# Two: each that runs Python code may make the event loop wait for one switch interval, 5 ms.
_THREADS = ThreadPoolExecutor(2, "bodies")


async def off_loop(work: Callable[[], T], size: int, inline: int = INLINE_BYTES) -> T:
    """Return what the work on `size` bytes returns; where the request is cancelled before it began, it isn't done.

    On few bytes, up to `inline`, it is done here.
    """
    if size <= inline:
        return work()
    return await asyncio.get_running_loop().run_in_executor(_THREADS, work)
