from __future__ import annotations

import asyncio
import threading

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
