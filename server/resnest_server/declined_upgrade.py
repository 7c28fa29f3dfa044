"""Reads on after a request that offers another protocol, as Java's client and `curl --http2` do (`Upgrade: h2c`).

httptools takes what follows such a request's headers for bytes of the other protocol. A server that declines the offer
has to read them as the request's body (RFC 9110, section 7.8), and what follows as further requests.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import httptools

FRAMING = (b"content-length", b"transfer-encoding")


def parser_after_headers(protocol: Any, headers: Iterable[tuple[bytes, bytes]]) -> httptools.HttpRequestParser:
    """Return a parser that stands behind the headers of a request, and gives the protocol its body's events.

    Args:
        protocol: what has the events' methods.
        headers: the request's, with names in lower case.
    """
    parser = httptools.HttpRequestParser(_EventsAfterHeaders(protocol))
    parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
    framing = b"".join(b"%b: %b\r\n" % (name, value) for name, value in headers if name in FRAMING)
    parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % framing)
    return parser


class _EventsAfterHeaders:
    """Passes events on, without those of the first request's headers: they have been passed on already."""

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self._is_after_headers = False

    def on_message_begin(self) -> None:
        if self._is_after_headers:
            self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if self._is_after_headers:
            self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_after_headers:
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._is_after_headers:
            self._protocol.on_headers_complete()
        self._is_after_headers = True

    def on_body(self, body: bytes) -> None:
        self._protocol.on_body(body)

    def on_message_complete(self) -> None:
        self._protocol.on_message_complete()
