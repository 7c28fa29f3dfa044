"""Concurrent processing: results in order, concurrency within its limit."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing

import pytest

from resnest_client.concurrency import AHEAD, in_order, in_order_async


class Work:
    """Doubles numbers; the lower ones take longer. Counts how many are doubled at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now = self.most = self.done = 0
        self.taken = 0
        self.cancelled = 0

    def numbers(self, count: int) -> Iterator[int]:
        for number in range(count):
            self.taken += 1
            yield number

    async def numbers_async(self, count: int) -> AsyncIterator[int]:
        for number in self.numbers(count):
            await asyncio.sleep(0)
            yield number

    def begin(self, number: int) -> float:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        return 0.02 if number % 4 == 0 else 0.002

    def end(self, number: int) -> int:
        with self.lock:
            self.now -= 1
            self.done += 1
        if number == 13:
            raise ValueError("13")
        return 2 * number

    def double(self, number: int) -> int:
        time.sleep(self.begin(number))
        return self.end(number)

    async def double_async(self, number: int) -> int:
        seconds = self.begin(number)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.end(number)


@pytest.mark.parametrize("limit", [1, 2, 3, 20])
def test_threads(limit: int) -> None:
    work = Work()
    assert [result() for result in in_order(work.double, work.numbers(12), limit)] == list(range(0, 24, 2))
    assert work.most <= limit
    assert limit != 3 or work.most == 3


@pytest.mark.parametrize("limit", [1, 3])
def test_items_are_taken_when_they_are_needed(limit: int) -> None:
    work = Work()
    with closing(in_order(work.double, work.numbers(1000), limit)) as results:
        assert next(results)() == 0
        assert work.taken <= AHEAD * limit
        next(results)()
        assert work.taken <= AHEAD * limit + 1
    assert work.now == 0
    assert work.done <= AHEAD * limit + 1


@pytest.mark.parametrize("limit", [1, 3])
def test_an_error_is_in_its_place_and_the_others_have_results(limit: int) -> None:
    work = Work()
    found: list[int | str] = []
    for result in in_order(work.double, work.numbers(16), limit):
        try:
            found.append(result())
        except ValueError as error:
            found.append(str(error))
    assert found == [*range(0, 26, 2), "13", 28, 30]


def test_nothing_to_do() -> None:
    assert list(in_order(Work().double, [], 3)) == []


@pytest.mark.parametrize("is_async", [False, True])
def test_tasks(is_async: bool) -> None:
    work = Work()

    async def run() -> list[int]:
        numbers = work.numbers_async(12) if is_async else work.numbers(12)
        return [found async for found in in_order_async(work.double_async, numbers, 3)]

    assert asyncio.run(run()) == list(range(0, 24, 2))
    assert work.most <= AHEAD * 3


def test_what_nobody_waits_for_is_cancelled() -> None:
    work = Work()

    async def run() -> None:
        async with aclosing(in_order_async(work.double_async, work.numbers(1000), 3)) as results:
            assert await anext(results) == 0
        assert len(asyncio.all_tasks()) == 1, "this one"

    asyncio.run(run())
    assert work.taken <= AHEAD * 3
    assert work.done + work.cancelled == work.taken


def test_an_error_cancels_the_rest(recwarn: pytest.WarningsRecorder) -> None:
    work = Work()

    async def run() -> list[int]:
        found = []
        with pytest.raises(ValueError, match="13"):
            async for number in in_order_async(work.double_async, work.numbers(100), 2):
                found.append(number)
        assert len(asyncio.all_tasks()) == 1
        return found

    assert asyncio.run(run()) == list(range(0, 26, 2))
    assert work.taken < 20
    assert not recwarn.list
