"""The order of jobs whose costs differ, by counting pixels and turns: no time is measured."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnest_server.fair_order import CLIENT
from resnest_server.fair_queue import FairQueue

HUGE, SMALL = 64_000_000, 300_000
ATTACKERS = 16


class Record:
    """Runs jobs on a queue, and notes whose began, in order."""

    def __init__(self, queue: FairQueue) -> None:
        self.queue = queue
        self.begun: list[tuple[str, int]] = []

    async def job(self, client: str, pixels: int, steps: int = 3) -> int:
        """Run a job; return how many HUGE ones began while it waited."""
        CLIENT.set(client)
        before = len(self.begun)
        async with self.queue.turn(pixels):
            huge = sum(cost == HUGE for _, cost in self.begun[before:])
            self.begun.append((client, pixels))
            for _ in range(steps):
                await asyncio.sleep(0)
        return huge


def run(main: Coroutine[Any, Any, Any]) -> None:
    asyncio.run(asyncio.wait_for(main, 60))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("addresses", ["the honest one's", "one", "sixteen", "a new one each time"])
def test_small_images_beside_attackers_wait_for_few_huge_ones(addresses: str, jobs: int) -> None:
    async def main() -> None:
        record = Record(FairQueue(jobs * HUGE))
        fresh = count()

        async def attack(number: int) -> None:
            for _ in range(20):
                client = {
                    "the honest one's": "honest",
                    "one": "attacker",
                    "sixteen": f"attacker {number}",
                    "a new one each time": f"attacker {next(fresh)}",
                }[addresses]
                await record.job(client, HUGE)

        attackers = [asyncio.create_task(attack(number)) for number in range(ATTACKERS)]
        waited = []
        for pause in range(40):
            for _ in range(pause % 7):
                await asyncio.sleep(0)
            waited.append(await asyncio.create_task(record.job("honest", SMALL)))
        assert not attackers[0].done()
        assert max(waited) <= 2 * jobs and sum(waited) <= 40 * jobs
        await asyncio.gather(*attackers)
        assert Counter(cost for _, cost in record.begun) == {HUGE: 20 * ATTACKERS, SMALL: 40}

    run(main())


def test_clients_share_pixels_and_not_requests() -> None:
    """One client has 16 requests at a time, others two; one's images are four times as large as another's."""

    async def main() -> None:
        record = Record(FairQueue(10))

        async def client(name: str, pixels: int) -> None:
            while len(record.begun) < 1000:
                await record.job(name, pixels)

        clients = [("many", 10)] * 16 + [("few", 10), ("large", 40)] * 2
        await asyncio.gather(*(client(*one) for one in clients))
        shares = Counter[str]()
        for name, pixels in record.begun[:900]:
            shares[name] += pixels
        assert max(shares.values()) <= min(shares.values()) + 2 * 40, shares

    run(main())


@pytest.mark.parametrize("name", ["its own", "another's", "a new client's each time"])
def test_a_huge_image_has_its_turn_among_small_ones_without_end(name: str) -> None:
    async def main() -> None:
        record = Record(FairQueue(HUGE))
        fresh = count()

        async def stream() -> None:
            while not huge.done():
                names = {"its own": "huge", "another's": "other"}
                await record.job(names.get(name, f"client {next(fresh)}"), HUGE // 50)

        first = asyncio.create_task(record.job("first", 1))
        huge = asyncio.create_task(record.job("huge", HUGE))
        await asyncio.gather(first, *(stream() for _ in range(5)))
        before = [cost for _, cost in record.begun].index(HUGE)
        assert before <= 6 * 50 + 10  # as many clients, or jobs of one, share equally

    run(main())


def test_pixels_at_a_time_are_bounded_and_the_order_is_kept() -> None:
    async def main() -> None:
        record = Record(FairQueue(100))
        sizes = [60, 40, 500, 30, 30, 30]
        tasks = [asyncio.create_task(record.job(f"{size} {number}", size, 5)) for number, size in enumerate(sizes)]
        await until(lambda: len(record.begun) == 2)
        assert [cost for _, cost in record.begun] == [60, 40]
        await asyncio.gather(*tasks)
        assert [cost for _, cost in record.begun[2:]] == [30, 30, 30, 500]  # alone: more than the limit

    run(main())


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.integers(1, 150), st.integers(0, 5), st.booleans(), st.integers(0, 30)),
        min_size=1,
        max_size=40,
    ),
)
def test_limits_hold_and_nothing_is_left_whatever_is_cancelled(plan: list[tuple[str, int, int, bool, int]]) -> None:
    async def main() -> None:
        queue = FairQueue(100)
        running: list[int] = []
        done: list[int] = []

        async def job(number: int, client: str, pixels: int, steps: int) -> None:
            CLIENT.set(client)
            async with queue.turn(pixels):
                running.append(pixels)
                assert sum(running) <= 100 or len(running) == 1
                try:
                    for _ in range(steps):
                        await asyncio.sleep(0)
                    done.append(number)
                finally:
                    running.remove(pixels)

        tasks = []
        for number, (client, pixels, steps, is_cancelled, pause) in enumerate(plan):
            tasks.append(asyncio.create_task(job(number, client, pixels, steps)))
            for _ in range(pause % 4):
                await asyncio.sleep(0)
            if is_cancelled:
                tasks[pause % len(tasks)].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert sorted(done) == [number for number, result in enumerate(results) if result is None]
        assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)
        assert_empty(queue)

    run(main())


def test_a_turn_that_is_given_and_cancelled_at_once_is_given_on() -> None:
    async def main() -> None:
        queue = FairQueue(10)
        release = asyncio.Event()
        begun: list[int] = []

        async def job(number: int) -> None:
            async with queue.turn(10):
                begun.append(number)
                await release.wait()
            if number == 0:  # it is the second's turn, which doesn't know yet
                tasks[1].cancel()

        tasks = [asyncio.create_task(job(number)) for number in range(3)]
        await until(lambda: begun == [0])
        release.set()
        await asyncio.wait(tasks)
        assert tasks[1].cancelled() and begun == [0, 2]
        assert_empty(queue)

    run(main())


def assert_empty(queue: FairQueue) -> None:
    order = queue._order
    assert not order._clients and not order.running and not order.pixels and order._clock == 0


def test_clients_that_had_no_more_than_their_share_are_forgotten() -> None:
    async def main() -> None:
        record = Record(FairQueue(2 * SMALL))
        endless = asyncio.create_task(record.job("endless", SMALL, 100_000))
        for number in range(500):
            await asyncio.create_task(record.job(f"client {number}", SMALL))
        assert len(record.queue._order._clients) < 10
        endless.cancel()

    run(main())
