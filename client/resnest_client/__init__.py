"""Clients of served detectors, with the interface of an in-process detector."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from resnest_core.errors import MissingExtraError

if TYPE_CHECKING:
    from resnest_client.async_grpc_detector import AsyncGrpcDetector
    from resnest_client.async_http_detector import AsyncHttpDetector
    from resnest_client.fetching import fetch_image
    from resnest_client.grpc_detector import GrpcDetector
    from resnest_client.http_detector import HttpDetector

__all__ = ["AsyncGrpcDetector", "AsyncHttpDetector", "GrpcDetector", "HttpDetector", "fetch_image"]

MODULES = {
    "AsyncGrpcDetector": "async_grpc_detector",
    "AsyncHttpDetector": "async_http_detector",
    "GrpcDetector": "grpc_detector",
    "HttpDetector": "http_detector",
    "fetch_image": "fetching",
}


def __getattr__(name: str) -> object:
    """Import on first use, as the command line imports this package even without the client's dependencies.

    Raises:
        MissingExtraError: a dependency isn't installed.
    """
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"resnest_client.{MODULES[name]}")
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error.name).partition(".")[0], "client") from error
    return getattr(module, name)
