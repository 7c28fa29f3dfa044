"""The HTTP gateway: `create_app(settings)` is an ASGI application, `resnest serve` runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resnest_server.app import create_app
    from resnest_server.settings import Settings

__all__ = ["Settings", "create_app"]


def __getattr__(name: str) -> object:
    """Import on first use: the command line reads this package where FastAPI isn't installed."""
    if name == "create_app":
        from resnest_server.app import create_app

        return create_app
    if name == "Settings":
        from resnest_server.settings import Settings

        return Settings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
