"""uvicorn's HTTP protocol with limits: of header bytes, of time for a client to send and to read, of connections."""

from __future__ import annotations

import asyncio
import time
from contextvars import copy_context
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from resnest_server import problems
from resnest_server.connections import Connections
from resnest_server.declined_upgrade import parser_after_headers
from resnest_server.request_context import REQUEST_ID, log_request, new_request_id, response_headers
from resnest_server.settings import Settings

LINGER_SECONDS = 1.0  # for a client that still sends to read why it was refused
MAX_PIPELINED = 16  # requests sent ahead on one connection
MIN_READ_BYTES = 64 * 1024  # of an answer, in each `send_seconds`
REQUEST_LINE_BYTES = 16  # besides the URL


class Refusal(NamedTuple):
    """The problem that a request is answered with before it reaches the application."""

    status: HTTPStatus
    slug: str
    detail: str


CROWDED = Refusal(
    HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "This server has too many connections: try again later."
)
MALFORMED = Refusal(
    HTTPStatus.BAD_REQUEST, "bad-request", "This is not an HTTP/1.1 request, or a damaged one: send it again."
)
PIPELINED = Refusal(
    HTTPStatus.TOO_MANY_REQUESTS, "too-many-requests", "Too many requests were sent ahead: await their answers."
)


def long_header(limit: str) -> Refusal:
    """Return the refusal of a header over a limit, such as `100 headers`."""
    detail = f"The request's headers are more than the {limit} allowed: send fewer."
    return Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "headers-too-large", detail)


@dataclass
class Shared:
    """What the connections of one server share."""

    settings: Settings
    connections: Connections
    ending: bool = False
    """Whether each connection is closed after the answer in progress."""


class _RefusedError(Exception):
    """The parser is to stop: the request is refused."""


class LimitedHttpProtocol(HttpToolsProtocol):
    """One connection. What is refused before it reaches the application is answered as a problem, too."""

    def __init__(self, *, shared: Shared, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.address = ""
        self._shared = shared
        self._limits = shared.settings
        self._since = 0.0
        self._header_bytes = 0
        self._quiet_bytes = 0
        """Since the request, or a part of its body, began."""
        self._refusal = MALFORMED
        self._is_closed = False
        self._headers_due: asyncio.TimerHandle | None = None
        self._read_due: asyncio.TimerHandle | None = None

    @property
    def waiting_since(self) -> float | None:
        """See `Connection.waiting_since`."""
        cycle = self.cycle
        is_answering = cycle is not None and not cycle.response_complete and not cycle.more_body
        return None if is_answering else self._since

    def make_room(self) -> None:
        """See `Connection.make_room`."""
        if self._quiet_bytes or not self._awaits_headers:
            self._refuse(CROWDED, linger=False)  # each holds a file descriptor
        else:
            self._close()

    def end_soon(self) -> None:
        """See `Connection.end_soon`. An answer that has begun couldn't say so any more: the next one does."""
        if self.cycle is not None and not self.cycle.response_started:
            self.cycle.keep_alive = False

    # The transport's events.

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        self._since = time.monotonic()
        self._watch_headers()
        if not self._shared.connections.admit(self):
            self._refuse(CROWDED, linger=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_closed = True
        self._shared.connections.discard(self)
        for timer in (self._headers_due, self._read_due):
            if timer:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_closed:
            return
        self._unset_keepalive_if_required()
        self._quiet_bytes += len(data)
        try:
            while data:
                data = self._parse(data)
        except httptools.HttpParserError:
            self._refuse(self._refusal)
        # A header that doesn't end, or lines around a body's chunks that don't.
        if self._quiet_bytes > self._limits.max_header_bytes:
            self._refuse(self._long_header)
        self._watch_headers()

    def _parse(self, data: bytes) -> bytes:
        """Parse requests, and return what is left behind the headers of one that offers another protocol."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self.parser = parser_after_headers(self, self.headers)
            return data[offer.args[0] :]
        return b""

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reading(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        if self._read_due:
            self._read_due.cancel()
            self._read_due = None
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    # The parser's events.

    def on_message_begin(self) -> None:
        self._header_bytes = REQUEST_LINE_BYTES
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count_header(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_header(len(name) + len(value) + len(b": \r\n"))
        if len(self.headers) >= self._limits.max_headers:
            self._stop(long_header(f"{self._limits.max_headers} headers"))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            self._stop(PIPELINED)
        self._quiet_bytes = 0
        super().on_headers_complete()
        if self._shared.ending:
            self.end_soon()

    def on_body(self, body: bytes) -> None:
        self._quiet_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # only the headers are: the body follows
        self._quiet_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._since = time.monotonic()
        super().on_response_complete()

    # Limits.

    @property
    def _awaits_headers(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    @property
    def _long_header(self) -> Refusal:
        return long_header(f"{self._limits.max_header_bytes:,} bytes")

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > self._limits.max_header_bytes:
            self._stop(self._long_header)

    def _watch_headers(self) -> None:
        """Start the clock of a request's headers, or stop it when they have come."""
        is_due = self._awaits_headers and (self.cycle is None or self._quiet_bytes > 0)
        if not is_due and self._headers_due:
            self._headers_due.cancel()
            self._headers_due = None
        elif is_due and not self._headers_due and not self._is_closed:
            self._headers_due = self.loop.call_later(self._limits.header_seconds, self._headers_are_late)
        if self._awaits_headers and not is_due and not self._is_closed:  # the rest of a body that was answered early
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _headers_are_late(self) -> None:
        if self._quiet_bytes:
            seconds = self._limits.header_seconds
            detail = f"The headers did not arrive within {seconds:g} s: send the request again."
            self._refuse(Refusal(HTTPStatus.REQUEST_TIMEOUT, "slow-headers", detail))
        else:
            self._close()

    def _watch_reading(self, unread: int) -> None:
        """Cut the client off if it then has read less of the answer than `MIN_READ_BYTES`."""

        def check() -> None:
            left = self.transport.get_write_buffer_size()
            if unread - left < MIN_READ_BYTES:
                self.transport.abort()
            else:
                self._watch_reading(left)

        self._read_due = self.loop.call_later(self._limits.send_seconds, check)

    # What is refused.

    def _stop(self, refusal: Refusal) -> None:
        """Refuse the request that is being parsed."""
        self._refusal = refusal
        raise _RefusedError(refusal.slug)

    def _refuse(self, refusal: Refusal, *, linger: bool = True) -> None:
        """Answer with a problem, unless it could be taken for the answer to an earlier request; and close."""
        if self._is_closed:
            return
        cycle = self.cycle
        is_current = cycle is not None and self.scope is cycle.scope and not cycle.response_started
        if not self.pipeline and (self._awaits_headers or is_current):
            copy_context().run(self._answer, refusal)
        if not self._awaits_headers:
            cycle.disconnected = True
            cycle.message_event.set()
        self._close(linger=linger)

    def _answer(self, refusal: Refusal) -> None:
        request_id = new_request_id()
        REQUEST_ID.set(request_id)
        headers = response_headers(request_id) | {"Connection": "close"}
        if refusal.status is HTTPStatus.SERVICE_UNAVAILABLE:
            headers |= problems.RETRY_AFTER
        answer = problems.answer(refusal.status, problems.described(*refusal), headers)
        lines = [b"%b: %b\r\n" % pair for pair in answer.raw_headers]
        self.transport.write(b"".join([STATUS_LINE[refusal.status], *lines, b"\r\n", bytes(answer.body)]))
        log_request("-", "-", refusal.status, 0.0, self.address or None)

    def _close(self, *, linger: bool = False) -> None:
        """Close the connection: at once, or after a moment for a client that still sends to read the answer."""
        self._is_closed = True
        if self.transport.is_closing():
            return
        if linger:
            self.transport.write_eof()
            self.loop.call_later(LINGER_SECONDS, self._close)
            return
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self.loop.call_later(LINGER_SECONDS, self.transport.abort)
