"""Dataclasses to protobuf's text format, as `config.pbtxt` holds it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

MADE_BY = "# Made by `resnest repository`: change its options, not this file.\n"
ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def to_text(message: Any) -> str:
    """Return a dataclass as protobuf's text, with a line that says what made it."""
    return MADE_BY + "".join(f"{line}\n" for line in _fields(message))


def _fields(message: Any) -> Iterator[str]:
    for field in fields(message):
        yield from _field(field.name, getattr(message, field.name))


def _field(name: str, value: Any) -> Iterator[str]:
    if value is None:
        return
    if isinstance(value, tuple):
        if value and not is_dataclass(value[0]):
            yield f"{name}: [{', '.join(map(_scalar, value))}]"
        else:
            for one in value:
                yield from _field(name, one)
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield f"{name} {{"
            yield from (f"  {line}" for part in (("key", key), ("value", one)) for line in _field(*part))
            yield "}"
    elif is_dataclass(value):
        yield f"{name} {{"
        yield from (f"  {line}" for line in _fields(value))
        yield "}"
    else:
        yield f"{name}: {_scalar(value)}"


def _scalar(value: bool | int | str | Enum) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, int):
        return str(value)
    return '"' + "".join(ESCAPES.get(one) or (one if one >= " " else f"\\{ord(one):03o}") for one in value) + '"'
