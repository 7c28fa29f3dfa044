"""How messages name several things."""

from __future__ import annotations

from collections.abc import Sequence

MAX_NAMED = 10


def named(names: Sequence[object]) -> str:
    """Return the first ten names, and how many more."""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(map(str, names[:MAX_NAMED])) + more
