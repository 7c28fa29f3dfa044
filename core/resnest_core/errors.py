"""Every error this project raises on purpose.

    ResNeStError
    ├── ImageError                 this image can't be used; another one can
    │   ├── NotAnImageError        not bytes of a supported image format, or damaged
    │   ├── ImageTooLargeError     more bytes or pixels than allowed
    │   └── ImageTooNarrowError    too few pixels on a side for this model
    ├── ParameterError             an argument is out of range
    ├── ModelError
    │   ├── ModelNotFoundError     no model of this name
    │   ├── InvalidModelError      the model file is damaged, or not one of ours
    │   └── EngineMismatchError    the TensorRT engine was built for another machine, or from another model
    ├── CheckpointError            the checkpoint doesn't fit the detector, or is damaged
    │   └── ConfigError            the configuration can't be read, or describes what can't be built
    ├── DownloadError              the checkpoint couldn't be fetched whole
    ├── AccessError                request refused
    │   ├── UnauthorizedError      the key is missing or unknown
    │   ├── ForbiddenError         a proxy or firewall in front of the server refuses it
    │   └── RateLimitedError       too many requests: `retry_after`
    ├── RuntimeUnavailableError    the runtime or server can't answer now; later it may
    │   ├── UnreachableError       no connection to the server, or it broke
    │   ├── TimedOutError          the server didn't answer in time
    │   ├── OverloadedError        the server refuses for now: `retry_after`
    │   └── PrecisionUnavailableError  the CPU or the runtime hasn't the model's precision
    ├── NotOpenError               a client is used before it is opened, or after it is closed
    ├── RemoteError                a server's response can't be used
    └── MissingExtraError          an optional package isn't installed

Each message is one sentence that says what to do. One table each maps them to HTTP responses
(`resnest_server.problems`) and to exit codes (`resnest_core.cli`).
"""

from __future__ import annotations


class ResNeStError(Exception):
    """Base of all errors of this project."""


class ImageError(ResNeStError):
    """This image can't be used; another one can."""


class NotAnImageError(ImageError):
    """The bytes aren't an image of a supported format, or are damaged or cut short."""


class ImageTooLargeError(ImageError):
    """The image has more bytes or pixels than allowed."""


class ImageTooNarrowError(ImageError):
    """The image, resized for the model, has too few pixels on a side."""


class ParameterError(ResNeStError):
    """An argument is out of range."""


class ModelError(ResNeStError):
    """A model can't be used."""


class ModelNotFoundError(ModelError):
    """There is no model of this name."""


class InvalidModelError(ModelError):
    """The model file is damaged, or wasn't made by `resnest export`."""


class EngineMismatchError(ModelError):
    """The TensorRT engine was built for another machine, or from another model."""


class CheckpointError(ResNeStError):
    """The checkpoint doesn't fit the detector, or is damaged."""


class ConfigError(CheckpointError):
    """The mmdetection configuration can't be read, or describes a detector that can't be built.

    `refusals` holds one sentence per setting that can't be built; it is empty where the text can't be read at all.
    """

    def __init__(self, message: str, refusals: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.refusals = refusals


class DownloadError(ResNeStError):
    """The checkpoint couldn't be fetched whole."""


class AccessError(ResNeStError):
    """Request refused: key missing, unknown or rate-limited."""


class UnauthorizedError(AccessError):
    """The API key is missing or unknown."""


class ForbiddenError(AccessError):
    """The server, or what is in front of it, refuses the request, whatever the key."""


class _LaterError(ResNeStError):
    """What is refused for now; `retry_after` are the seconds to wait, None if unknown."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RateLimitedError(_LaterError, AccessError):
    """Too many requests; `retry_after` are the seconds until there is room for the next, None if unknown."""


class RuntimeUnavailableError(ResNeStError):
    """The runtime or server can't answer now; later it may."""


class UnreachableError(RuntimeUnavailableError):
    """There is no connection to the server, or it broke."""


class TimedOutError(RuntimeUnavailableError):
    """The server didn't answer in time; it may still be working on the request."""


class OverloadedError(_LaterError, RuntimeUnavailableError):
    """The server refuses requests for now; `retry_after` are the seconds it asks to wait, None where it doesn't say."""


class PrecisionUnavailableError(RuntimeUnavailableError):
    """The CPU or the runtime hasn't the model's precision; the model can be computed in fp32."""


class NotOpenError(ResNeStError):
    """A client is used before it is opened, or after it is closed."""


class RemoteError(ResNeStError):
    """A server's response can't be used."""


class MissingExtraError(ResNeStError):
    """An optional package isn't installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: run pip install 'resnest-serving[{extra}]'.")
        self.package = package
        self.extra = extra

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        return type(self), (self.package, self.extra)  # from one process to another
