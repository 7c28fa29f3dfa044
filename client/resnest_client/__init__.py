"""Detectors behind a server, with the interface of one in the process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnest_core.errors import MissingExtraError

if TYPE_CHECKING:
    from resnest_client.async_http_detector import AsyncHttpDetector
    from resnest_client.http_detector import HttpDetector

__all__ = ["AsyncHttpDetector", "HttpDetector"]


def __getattr__(name: str) -> object:
    """Import on first use: the command line reads this package where httpx isn't installed.

    Raises:
        MissingExtraError: a package of the client isn't installed.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from resnest_client.async_http_detector import AsyncHttpDetector
        from resnest_client.http_detector import HttpDetector
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error.name), "client") from error
    return {"AsyncHttpDetector": AsyncHttpDetector, "HttpDetector": HttpDetector}[name]
