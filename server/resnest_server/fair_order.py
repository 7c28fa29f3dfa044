"""The order of jobs whose costs differ, fair between clients: weighted fair queueing, in two levels.

A job's cost is the pixels of its image. An ideal server would work on all jobs at once, with an equal share of its
speed for each client that has jobs, and an equal share of that for each of the client's jobs. The job runs next that
the ideal server would finish first. So a small image waits for about one large one, however many large ones are queued
and whoever sent them; and every image has its turn, as the ideal server finishes each.

Source: A. Demers, S. Keshav and S. Shenker, "Analysis and simulation of a fair queueing algorithm", SIGCOMM 1989.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from heapq import heapify, heappush
from typing import Generic, TypeVar

T = TypeVar("T")

CLIENT: ContextVar[str] = ContextVar("client", default="")
"""Who sent the request: the hash of a key, or an address."""


@dataclass(eq=False)
class Client(Generic[T]):
    """A client's jobs.

    Attributes:
        name: the client's.
        received: pixels that it has had since it was on a par with the order's clock.
        clock: pixels that the ideal server would have given to each of its jobs.
        running: how many of its jobs run.
        queued: a heap: the job that the ideal server finishes first is the first.
    """

    name: str
    received: float
    clock: float = 0.0
    running: int = 0
    queued: list[Job[T]] = field(default_factory=list)

    @property
    def is_active(self) -> bool:
        return bool(self.running or self.queued)


@dataclass(eq=False)
class Job(Generic[T]):
    """Work of a client; the ideal server finishes it at `finish` on its client's clock."""

    client: Client[T]
    pixels: int
    finish: float
    number: int
    work: T

    def __lt__(self, other: Job[T]) -> bool:
        return (self.finish, self.number) < (other.finish, other.number)


class FairOrder(Generic[T]):
    """Orders jobs; not safe to use from several threads at once.

    Attributes:
        pixels: those of the jobs that run.
        running: how many jobs run.
    """

    def __init__(self) -> None:
        self.pixels = 0
        self.running = 0
        self._number = 0
        self._clients: dict[str, Client[T]] = {}  # the active ones, and those that had more than their share
        self._clock = 0.0  # pixels that the ideal server would have given to a client that is always active

    def add(self, name: str, pixels: int, work: T) -> Job[T]:
        """Queue a job of the client of this name."""
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = Client(name, self._clock)
        elif not client.is_active:
            client.received = max(client.received, self._clock)
        self._number += 1
        job = Job(client, pixels, client.clock + pixels, self._number, work)
        heappush(client.queued, job)
        return job

    def first(self) -> Job[T] | None:
        """Return the job that is to run next; None: nothing is queued."""
        waiting = [client for client in self._clients.values() if client.queued]
        if not waiting:
            return None
        return min(waiting, key=lambda client: client.received + client.queued[0].pixels).queued[0]

    def fits(self, job: Job[T], limit: int) -> bool:
        """Return whether with a job no more than `limit` pixels would run; alone it may have more.

        Others aren't to overtake one that doesn't fit, which might wait forever otherwise.
        """
        return not self.running or self.pixels + job.pixels <= limit

    def begin(self, job: Job[T]) -> None:
        """Note that a queued job runs."""
        client = job.client
        self._dequeue(job)
        client.running += 1
        client.received += job.pixels
        client.clock += job.pixels / (client.running + len(client.queued))
        self.running += 1
        self.pixels += job.pixels
        self._clock += job.pixels / sum(client.is_active for client in self._clients.values())

    def end(self, job: Job[T]) -> None:
        """Note that a job doesn't run any more."""
        job.client.running -= 1
        self.running -= 1
        self.pixels -= job.pixels
        self._forget(job.client)

    def remove(self, job: Job[T]) -> None:
        """Dequeue a job that isn't to run, if it is queued."""
        if job in job.client.queued:
            self._dequeue(job)
            self._forget(job.client)

    def _dequeue(self, job: Job[T]) -> None:
        queued = job.client.queued
        queued.remove(job)
        heapify(queued)

    def _forget(self, client: Client[T]) -> None:
        """Forget clients that had no more than their share; everything once nothing is left to do."""
        if client.is_active:
            return
        client.clock = 0.0
        if not any(other.is_active for other in self._clients.values()):
            self._clients.clear()
            self._clock = 0.0
            return
        for other in [*self._clients.values()]:
            if not other.is_active and other.received <= self._clock:
                del self._clients[other.name]
