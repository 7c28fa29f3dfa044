"""What went wrong, in a word: errors are counted by it."""

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
    """Return the kind of an error of a detector.

    `unavailable` is a server that can't be reached, `busy` one that is there and refuses for now, `timeout` one that
    doesn't answer in time.
    """
    if not isinstance(error, RuntimeUnavailableError):
        return next((kind for known, kind in CATEGORIES.items() if isinstance(error, known)), OTHER)
    cause = error.__cause__
    if cause is None:  # the gateway's own answer
        return BUSY
    status = getattr(cause, "status", None)  # of tritonclient's InferenceServerException
    if "Timeout" in type(cause).__name__ or (callable(status) and "DEADLINE_EXCEEDED" in str(status())):
        return TIMEOUT
    return BUSY if "queue size" in str(cause) else UNAVAILABLE
