"""Shares a bounded capacity fairly between clients whose jobs differ in cost: weighted fair queueing, in two levels.

A job's cost is the pixels of its image. An ideal server would work on all jobs at once, with an equal share of its
speed for each client that has jobs, and an equal share of that for each of the client's jobs. The queue lets the job
run next that the ideal server would finish first. So a small image waits for about one large one, however many large
ones are queued and whoever sent them; and every image has its turn, as the ideal server finishes each.

Source: A. Demers, S. Keshav and S. Shenker, "Analysis and simulation of a fair queueing algorithm", SIGCOMM 1989.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

CLIENT: ContextVar[str] = ContextVar("client", default="")
"""Who sent the request: the hash of a key, or an address."""


@dataclass(eq=False)
class _Client:
    """A client's queued jobs, by when the ideal server finishes them.

    Attributes:
        name: the client's.
        received: pixels that it has had since it was on a par with the queue's clock.
        clock: pixels that the ideal server would have given to each of its jobs.
        running: its jobs that run.
    """

    name: str
    received: float
    clock: float = 0.0
    running: int = 0
    queued: list[Job] = field(default_factory=list)

    @property
    def is_active(self) -> bool:
        return bool(self.running or self.queued)


@dataclass(eq=False)
class Job:
    """What has a turn, or waits for one. `finish`: on its client's clock."""

    client: _Client
    pixels: int
    finish: float
    number: int
    begun: asyncio.Future[None]

    def __lt__(self, other: Job) -> bool:
        return (self.finish, self.number) < (other.finish, other.number)


class FairQueue:
    """Gives jobs their turns; used on one event loop.

    Args:
        pixels: that jobs may have together while they run; one job alone may have more.
        jobs: that may run at a time; None: any number.
    """

    def __init__(self, pixels: int, jobs: int | None = None) -> None:
        self._limit = pixels
        self._jobs = jobs
        self._running = 0
        self._pixels = 0
        self._number = 0
        self._clients: dict[str, _Client] = {}  # the active ones, and those that had more than their share
        self._clock = 0.0  # pixels that the ideal server would have given to a client that is always active

    @asynccontextmanager
    async def turn(self, pixels: int) -> AsyncIterator[None]:
        """Run the block when it is the turn of a job of CLIENT with so many pixels."""
        job = await self.take(pixels)
        try:
            yield
        finally:
            self.release(job)

    async def take(self, pixels: int) -> Job:
        """Wait for the turn of a job of CLIENT; it runs until it is released. Cancelled ones are dequeued."""
        name = CLIENT.get()
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = _Client(name, self._clock)
        elif not client.is_active:
            client.received = max(client.received, self._clock)
        self._number += 1
        job = Job(client, pixels, client.clock + pixels, self._number, asyncio.get_running_loop().create_future())
        heappush(client.queued, job)
        self._admit()
        try:
            if not job.begun.done():
                await job.begun
        except asyncio.CancelledError:
            if job.begun.cancelled():
                self._dequeue(job)
            else:  # it began, and was cancelled before it could know
                self.release(job)
            raise
        return job

    def release(self, job: Job) -> None:
        """End a job's turn."""
        job.client.running -= 1
        self._running -= 1
        self._pixels -= job.pixels
        self._forget(job.client)
        self._admit()

    def _dequeue(self, job: Job) -> None:
        if job in job.client.queued:
            job.client.queued.remove(job)
            heapify(job.client.queued)
        self._forget(job.client)
        self._admit()

    def _fits(self, job: Job) -> bool:
        has_room = (self._jobs is None or self._running < self._jobs) and self._pixels + job.pixels <= self._limit
        return has_room or not self._running

    def _admit(self) -> None:
        """Begin what fits, in order. None overtakes one that doesn't fit yet, which might wait forever otherwise."""
        while waiting := [client for client in self._clients.values() if client.queued]:
            client = min(waiting, key=lambda client: client.received + client.queued[0].pixels)
            if not self._fits(client.queued[0]):
                return
            job = heappop(client.queued)
            if not job.begun.cancelled():
                self._begin(job)
                job.begun.set_result(None)

    def _begin(self, job: Job) -> None:
        client = job.client
        client.running += 1
        client.received += job.pixels
        client.clock += job.pixels / (client.running + len(client.queued))
        self._running += 1
        self._pixels += job.pixels
        self._clock += job.pixels / sum(client.is_active for client in self._clients.values())

    def _forget(self, client: _Client) -> None:
        """Forget clients that owe nothing: all of them once nothing is left to do."""
        if client.is_active:
            return
        client.clock = 0.0
        if not self._running and not any(other.is_active for other in self._clients.values()):
            self._clients.clear()
            self._clock = 0.0
            return
        for other in [*self._clients.values()]:
            if not other.is_active and other.received <= self._clock:
                del self._clients[other.name]
