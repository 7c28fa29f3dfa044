"""Categories of benchmark errors, by which errors are counted."""

from __future__ import annotations

from resnest_core.errors import (
    AccessError,
    ImageError,
    ModelError,
    ParameterError,
    RemoteError,
    RuntimeUnavailableError,
)

NOT_SENT = "not sent"
TIMEOUT = "timeout"
UNAVAILABLE = "unavailable"
BUSY = "busy"
OTHER = "other"
CATEGORIES: dict[type[Exception], str] = {
    ImageError: "image",
    ParameterError: "parameter",
    AccessError: "access",
    ModelError: "model",
    RemoteError: "remote",
}


def category_of(error: Exception) -> str:
    """Return the category of a detector's error.

    `unavailable`: the server can't be reached; `busy`: it refuses the request for now; `timeout`: it doesn't answer in
    time.
    """
    if not isinstance(error, RuntimeUnavailableError):
        return next((kind for known, kind in CATEGORIES.items() if isinstance(error, known)), OTHER)
    cause = error.__cause__
    if cause is None:  # a response of the gateway
        return BUSY
    status = getattr(cause, "status", None)  # of tritonclient's InferenceServerException
    if "Timeout" in type(cause).__name__ or (callable(status) and "DEADLINE_EXCEEDED" in str(status())):
        return TIMEOUT
    return BUSY if "queue size" in str(cause) else UNAVAILABLE
