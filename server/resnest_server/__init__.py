"""The HTTP gateway: `create_app(settings)` is an ASGI application, `resnest serve` runs it."""

from resnest_server.app import create_app
from resnest_server.settings import Settings

__all__ = ["Settings", "create_app"]
