"""Values of a configuration that was read without running it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from reprlib import Repr
from typing import Any

Value = Any
"""None, bool, int, float, str, list, tuple, set, Section or Unevaluated, nested."""

_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 60


@dataclass(frozen=True)
class Place:
    """Where something stands in a configuration."""

    source: str
    line: int

    def __str__(self) -> str:
        return f"{self.source}, line {self.line}"


@dataclass(frozen=True)
class Unevaluated:
    """A value that can't be known without running the configuration; harmless until it is needed."""

    place: Place
    text: str
    """The expression or statement, shortened."""
    why: str
    """Such as `is a call`."""

    def __str__(self) -> str:
        return f"{self.text} {self.why} ({self.place})"


class Section(dict[str, Value]):
    """A dictionary of a configuration that remembers where each key was set."""

    def __init__(self, items: Mapping[str, Value] | Iterable[tuple[str, Value]] = ()) -> None:
        super().__init__(items)
        self.places: dict[str, Place] = dict(items.places) if isinstance(items, Section) else {}

    def put(self, key: str, value: Value, place: Place) -> None:
        """Set a key and its place."""
        self[key] = value
        self.places[key] = place

    def add(self, other: Section) -> None:
        """Set all keys of another section, with their places."""
        self.update(other)
        self.places.update(other.places)


def containers_in(value: Value) -> Iterator[list[Value] | Section]:
    """Yield every mutable container within a value, each once."""
    seen: set[int] = set()
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, (list, tuple, Section)):
            if id(item) in seen:
                continue
            seen.add(id(item))
            stack.extend(item.values() if isinstance(item, Section) else item)
            if not isinstance(item, tuple):
                yield item


def shortened(value: Value) -> str:
    """Return a short representation of a value for a message."""
    if isinstance(value, Unevaluated):
        return value.text
    return _SHORT.repr(value)
