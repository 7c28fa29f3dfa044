"""Limits the connections of a gateway, and finds the ones that make room for new ones."""

from __future__ import annotations

import logging
import resource
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Protocol

from resnest_core.errors import ParameterError

SPARE_FILES = 64  # for what opens files for a moment: the log, the file of keys, a reload

log = logging.getLogger(__name__)


class Connection(Protocol):
    """A client's connection."""

    address: str

    @property
    def waiting_since(self) -> float | None:
        """Since when the server has been waiting for a request, or for the rest of one; None: one is being answered."""
        ...

    def make_room(self) -> None:
        """Refuse the request that hasn't arrived whole, and close the connection."""
        ...

    def end_soon(self) -> None:
        """Close the connection after the next answer that can say so."""
        ...


class Connections:
    """The open connections; made and used on one event loop.

    Where one more exceeds a limit, the one that has kept the server waiting the longest makes room for it. So many slow
    clients can't shut out those that send their requests at once.

    Args:
        limit: of all connections.
        per_address: of those of one address; None: only `limit` counts.
    """

    def __init__(self, limit: int, per_address: int | None = None) -> None:
        self._limit = limit
        self._per_address = per_address
        self._open: set[Connection] = set()
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._open)

    def admit(self, new: Connection) -> bool:
        """Count a connection, and let another one make room where there are too many; False: none can, so close it."""
        crowd = self._crowd(new)
        if crowd:
            waiting = [(since, other) for other in crowd if (since := other.waiting_since) is not None]
            if not waiting:
                return False
            _, longest = min(waiting, key=lambda pair: pair[0])
            self.discard(longest)
            longest.make_room()
        self._open.add(new)
        self._counts[new.address] += 1
        return True

    def discard(self, connection: Connection) -> None:
        """Stop counting a connection."""
        if connection not in self._open:
            return
        self._open.remove(connection)
        self._counts[connection.address] -= 1
        if not self._counts[connection.address]:
            del self._counts[connection.address]

    def _crowd(self, new: Connection) -> Collection[Connection]:
        """Return the connections of which one has to make room: those of the new one's address, all, or none."""
        if self._per_address is not None and self._counts[new.address] >= self._per_address:
            return [other for other in self._open if other.address == new.address]
        return self._open if len(self._open) >= self._limit else ()


def connections_that_fit(wanted: int) -> int:
    """Return how many connections this process has file descriptors for, at most those wanted.

    The process's limit of open files is raised as far as the system allows. Half of what is free is left for
    connections that the system has accepted and the server hasn't looked at yet.

    Raises:
        ParameterError: there are too few for any.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    reserved = open_files() + SPARE_FILES
    needed = reserved + 2 * wanted
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    fit = wanted if soft == resource.RLIM_INFINITY else min((soft - reserved) // 2, wanted)
    if fit < 1:
        raise ParameterError(f"{soft} open files are too few for a server: raise the limit with `ulimit -n`.")
    if fit < wanted:
        log.warning("%d open files allow %d connections, not %d: raise `ulimit -n`.", soft, fit, wanted)
    return fit


def open_files() -> int:
    """Return how many file descriptors this process has open."""
    return sum(1 for _ in Path("/dev/fd").iterdir())
