"""Cross-origin requests: which web pages may use the gateway, and which headers they may send and read."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from resnest_server.request_context import REQUEST_ID_HEADER

METHODS = ("GET", "HEAD", "POST")
TRACE_HEADERS = ("traceparent", "tracestate", "baggage")  # of W3C's Trace Context, that OpenTelemetry sends
ALLOWED_HEADERS = ("Authorization", "Content-Encoding", "Content-Type", "X-API-Key", REQUEST_ID_HEADER, *TRACE_HEADERS)
EXPOSED_HEADERS = ("Retry-After", "Server-Timing", REQUEST_ID_HEADER, "traceparent", "tracestate")
ANY = "*"
OPAQUE = "null"  # sent by pages without an origin, such as files
DEFAULT_PORTS = {"http": 80, "https": 443}

log = logging.getLogger(__name__)


def install(app: FastAPI, origins: Sequence[str]) -> None:
    """Allow pages of these origins to use the gateway; an origin written otherwise than browsers do is corrected."""
    corrected = [checked_origin(origin) for origin in origins]
    for given, origin in zip(origins, corrected, strict=True):
        if given != origin:
            log.warning(
                "The origin %s is taken as %s, as browsers write it: correct RESNEST_CORS_ORIGINS.", given, origin
            )
    app.add_middleware(
        CORSMiddleware,
        allow_origins=corrected,
        allow_methods=METHODS,
        allow_headers=ALLOWED_HEADERS,
        expose_headers=EXPOSED_HEADERS,
    )


def checked_origin(text: str) -> str:
    """Return an origin as browsers write it: in small letters, without a slash at the end or the scheme's own port.

    Raises:
        ValueError: it isn't an origin.
    """
    if text in (ANY, OPAQUE):
        return text
    parts = urlsplit(text)
    host, port = parts.hostname, parts.port
    if not (parts.scheme and host) or parts.path not in ("", "/") or parts.query or parts.fragment or parts.username:
        raise ValueError(f"{text} is not an origin: use one such as https://app.example.com")
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}" + (f":{port}" if port and port != DEFAULT_PORTS.get(parts.scheme) else "")
