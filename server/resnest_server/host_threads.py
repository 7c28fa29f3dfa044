"""The threads that decode images and encode answers, shared fairly between clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Lock
from typing import Any, NamedTuple, TypeVar

from resnest_core.cpus import share_of_cpus
from resnest_core.threads import work_in_callers_thread
from resnest_server.fair_order import CLIENT, FairOrder, Job

T = TypeVar("T")


class _Work(NamedTuple):
    function: Callable[[], Any]
    result: Future[Any]


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
        self._limit = pixels
        self._order = FairOrder[_Work]()
        self._lock = Lock()
        self._has_postponed = False

    async def run(self, function: Callable[[], T], pixels: int) -> T:
        """Return what the work on an image of so many pixels returns. Cancelled before it began, it isn't done."""
        result: Future[T] = Future()
        with self._lock:
            job = self._order.add(CLIENT.get(), pixels, _Work(function, result))
        try:
            self._threads.submit(self._run_in_order)  # threads choose: waking them for each job costs more
            return await asyncio.wrap_future(result)
        finally:
            if result.cancelled() or not result.done():
                with self._lock:
                    self._order.remove(job)

    def close(self) -> None:
        """Begin no more work; what runs isn't waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _run_in_order(self) -> None:
        """Run jobs while there are any that fit: each thread that is done with one begins the next."""
        job = self._next(None)
        while job is not None:
            _run(job.work)
            job = self._next(job)

    def _next(self, done: Job[_Work] | None) -> Job[_Work] | None:
        """End a job, and begin the next; None: there is none, or it must wait until another thread is done."""
        with self._lock:
            if done is not None:
                self._order.end(done)
                if self._has_postponed:
                    self._has_postponed = False
                    self._wake(self.count - 1)
            while job := self._order.first():
                if not self._order.fits(job, self._limit):
                    self._has_postponed = True
                    return None
                if job.work.result.set_running_or_notify_cancel():
                    self._order.begin(job)
                    return job
                self._order.remove(job)
        return None

    def _wake(self, threads: int) -> None:
        with suppress(RuntimeError):  # closed
            for _ in range(threads):
                self._threads.submit(self._run_in_order)


def _run(work: _Work) -> None:
    function, result = work
    try:
        answer = function()
    except BaseException as error:
        result.set_exception(error)
        del work, function, result  # else the error's traceback would keep the image
    else:
        result.set_result(answer)
