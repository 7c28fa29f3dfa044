"""Reads the header Accept: the first of the media ranges that the client prefers most (RFC 9110, 12.5.1)."""

from __future__ import annotations

import re

_PARTS = {mark: re.compile(rf'(?:"(?:[^"\\]|\\.)*"?|[^{mark}"])+') for mark in ",;"}  # split outside of quotes
_TOKEN = r"[\w!#$%&'*+.^`|~-]+"
_RANGE = re.compile(f"{_TOKEN}/{_TOKEN}|[*]", re.ASCII)  # some clients write * for */*


def first_preferred(accept: str) -> str | None:
    """Return the first of the ranges with the highest quality, in small letters; None: there is none.

    A range that can't be read, or whose quality can't, counts as not there.
    """
    best, best_quality = None, 0.0
    for part in _PARTS[","].findall(accept):
        name, *parameters = [piece.strip().lower() for piece in _PARTS[";"].findall(part)] or [""]
        quality = _quality(parameters)
        if _RANGE.fullmatch(name) and quality > best_quality:
            best, best_quality = name, quality
    return best


def _quality(parameters: list[str]) -> float:
    """Return the value of `q`: 1 where there is none, 0 where it isn't in 0…1."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                quality = float(value)
            except ValueError:
                return 0.0
            return quality if 0 <= quality <= 1 else 0.0
    return 1.0
