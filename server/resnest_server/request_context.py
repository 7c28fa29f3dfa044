"""Middleware for every request: its id, a line in the access log, and security headers."""

from __future__ import annotations

import logging
import random
import re
import time
from contextvars import ContextVar

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resnest_core.messages import shortened

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
REQUEST_ID_HEADER = "X-Request-ID"
SANE_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
QUIET = ("/health/", "/metrics")  # polled all the time

log = logging.getLogger("resnest_server.access")


class RequestContext:
    """ASGI middleware: gives each request its id (the client's own, if sane), and logs the outcome."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
        request_id = given if SANE_ID.fullmatch(given) else new_request_id()
        REQUEST_ID.set(request_id)  # stays set in this request's task, for what the server itself logs
        start = time.perf_counter()
        status, failed = 0, True

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in response_headers(request_id).items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
            failed = False
        finally:
            client = scope.get("client")
            address = client[0] if client else None
            log_request(scope["method"], scope["path"], status, time.perf_counter() - start, address, failed)


def new_request_id() -> str:
    """Return a random id for a request."""
    return f"{random.getrandbits(128):032x}"


def response_headers(request_id: str) -> dict[str, str]:
    """Return the headers that every response has."""
    return {REQUEST_ID_HEADER: request_id, **SECURITY_HEADERS}


def log_request(method: str, path: str, status: int, seconds: float, address: str | None, failed: bool = False) -> None:
    """Write a request's line of the access log; `failed`: its response was broken off."""
    level = logging.DEBUG if path.startswith(QUIET) and status < 400 and not failed else logging.INFO
    if not log.isEnabledFor(level):
        return
    fields = {
        "method": method,
        "path": shortened(path),
        "status": status,
        "ms": round(seconds * 1000, 1),
        "client": address,
        "failed": failed,
    }
    text = "%(method)s %(path)s %(status)d %(ms).1f ms"
    log.log(level, f"{text}, broken off" if failed else text, fields, extra=fields)
