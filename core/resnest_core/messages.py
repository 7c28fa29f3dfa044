"""How messages name several things, and quote what others wrote."""

from __future__ import annotations

from collections.abc import Sequence

MAX_NAMED = 10
MAX_QUOTED = 200  # characters


def named(names: Sequence[object]) -> str:
    """Return the first ten names, and how many more."""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(map(str, names[:MAX_NAMED])) + more


def shortened(text: object) -> str:
    """Return a text for a message: at most 200 characters, an ellipsis for more, and what UTF-8 can't hold escaped."""
    whole = str(text)
    short = whole if len(whole) <= MAX_QUOTED else f"{whole[: MAX_QUOTED - 1]}…"
    return short.encode(errors="backslashreplace").decode()
