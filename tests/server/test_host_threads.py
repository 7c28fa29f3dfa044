from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
import weakref
from functools import partial

import pytest

from resnest_server.host_threads import HostThreads


def test_work_returns_and_raises() -> None:
    async def main() -> None:
        host = HostThreads(100)
        assert await host.run(lambda: 7, 10) == 7
        with pytest.raises(ZeroDivisionError):
            await host.run(lambda: 1 // 0, 10)
        assert await asyncio.gather(*(host.run(lambda: 7, 60) for _ in range(9))) == [7] * 9
        host.close()
        for _ in range(2):  # the turn is given back
            with pytest.raises(RuntimeError):
                await host.run(lambda: 7, 10)

    asyncio.run(main())


def test_cancelled_work_has_its_thread_until_it_is_done_and_queued_work_is_not_done() -> None:
    began, end, done = threading.Event(), threading.Event(), list[str]()

    def long() -> None:
        began.set()
        assert end.wait(30)
        done.append("long")

    async def main() -> None:
        host = HostThreads(100, threads=1)
        first = asyncio.create_task(host.run(long, 10))
        queued = asyncio.create_task(host.run(lambda: done.append("queued"), 10))
        await asyncio.to_thread(began.wait, 30)
        first.cancel()
        queued.cancel()
        last = asyncio.create_task(host.run(lambda: done.append("last"), 10))
        await asyncio.wait([first, queued])
        assert first.cancelled() and queued.cancelled() and not last.done()
        end.set()
        await last
        host.close()

    asyncio.run(main())
    assert done == ["long", "last"]


def test_pixels_are_bounded_and_every_job_is_done_on_several_threads() -> None:
    lock, running, most = threading.Lock(), list[int](), list[tuple[int, int]]()

    def work(pixels: int) -> int:
        with lock:
            running.append(pixels)
            most.append((sum(running), len(running)))
        time.sleep(0.001)
        with lock:
            running.remove(pixels)
        return pixels

    async def main() -> None:
        host = HostThreads(100, threads=4)
        sizes = [random.Random(1).choice((1, 30, 60, 200)) for _ in range(200)]
        tasks = [asyncio.create_task(host.run(partial(work, size), size)) for size in sizes]
        await asyncio.sleep(0.01)
        for task in tasks[::7]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(
            result == size or (number % 7 == 0 and isinstance(result, asyncio.CancelledError))
            for number, (result, size) in enumerate(zip(results, sizes, strict=True))
        )
        assert await host.run(lambda: 7, 10) == 7
        host._threads.shutdown()  # a thread ends its job after its result is known
        assert not host._order._clients and not host._order.running and not host._order.pixels
        host.close()

    asyncio.run(asyncio.wait_for(main(), 60))
    assert all(pixels <= 100 or jobs == 1 for pixels, jobs in most)
    assert max(jobs for _, jobs in most) > 1


def test_cancelled_work_is_not_kept() -> None:
    """A request's body is held by its work: clients that leave don't fill the memory."""
    end = threading.Event()

    class Body:
        def decode(self) -> None:
            raise AssertionError

    async def main() -> None:
        host = HostThreads(100, threads=1)
        first = asyncio.create_task(host.run(lambda: end.wait(30), 10))
        bodies = [Body() for _ in range(5)]
        kept = [weakref.ref(body) for body in bodies]
        tasks = [asyncio.create_task(host.run(body.decode, 10)) for body in bodies]
        await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        del bodies, tasks, task
        gc.collect()
        assert [reference() for reference in kept] == [None] * 5
        end.set()
        await first
        host.close()

    asyncio.run(main())
