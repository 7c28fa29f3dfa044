"""Categories of benchmark errors, by which errors are counted."""

from __future__ import annotations

from resnest_core.errors import (
    AccessError,
    ImageError,
    ModelError,
    OverloadedError,
    ParameterError,
    RemoteError,
    RuntimeUnavailableError,
    TimedOutError,
)

NOT_SENT = "not sent"
TIMEOUT = "timeout"
UNAVAILABLE = "unavailable"
OTHER = "other"
CATEGORIES: dict[type[Exception], str] = {
    ImageError: "image",
    ParameterError: "parameter",
    AccessError: "access",
    ModelError: "model",
    RemoteError: "remote",
    OverloadedError: "busy",
    TimedOutError: TIMEOUT,
    RuntimeUnavailableError: UNAVAILABLE,
}


def category_of(error: Exception) -> str:
    """Return the category of a detector's error.

    `unavailable`: the server can't be reached; `busy`: it refuses the request for now; `timeout`: it doesn't answer in
    time.
    """
    return next((kind for known, kind in CATEGORIES.items() if isinstance(error, known)), OTHER)
