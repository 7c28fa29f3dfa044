"""The gateway under uvicorn: a time limit on request headers, and graceful shutdown."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from resnest_server import environment, logs, telemetry
from resnest_server.access import require_keys_in_public
from resnest_server.app import create_app
from resnest_server.engine_loading import load_engines
from resnest_server.listening import authority, listen
from resnest_server.settings import Settings

POLL_SECONDS = 0.05  # between checks whether requests are in flight

log = logging.getLogger(__name__)


def serve(settings: Settings) -> None:
    """Load the models, and serve them until the process is signalled to stop.

    Raises:
        ModelNotFoundError, InvalidModelError, RuntimeUnavailableError, MissingExtraError: a model can't be loaded.
        ParameterError: others can reach the address, and there are no keys; the file of keys can't be read; or the
            address can't be listened on.
    """
    logs.configure(settings)
    for warning in environment.warnings(Settings.model_fields):
        log.warning(warning)
    require_keys_in_public(settings)
    if settings.otlp_endpoint:
        telemetry.send_traces(settings.otlp_endpoint)
    server, listeners = make_server(create_app(settings, load_engines(settings)), settings)
    log.info("Listening at http://%s.", authority(settings.host, listeners[0].getsockname()[1]))
    server.run(sockets=listeners)


def make_server(app: FastAPI, settings: Settings) -> tuple[uvicorn.Server, list[socket.socket]]:
    """Return a server for the gateway, and the sockets to run it on.

    Raises:
        ParameterError: the address can't be listened on.
    """
    config = uvicorn.Config(
        app,
        http=_protocol(settings.header_seconds),
        timeout_graceful_shutdown=settings.shutdown_seconds,
        server_header=False,
        access_log=False,
        log_config=None,
    )
    return _Server(config, app, settings.shutdown_seconds), listen(settings.host, settings.port)


def _protocol(header_seconds: float) -> type[asyncio.Protocol]:
    class Protocol(HttpToolsProtocol):
        """uvicorn's, and a connection that doesn't send a request's headers in time is closed."""

        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self._deadline:
                self._deadline.cancel()

        def _watch(self) -> None:
            awaits_headers = self.cycle is None or self.cycle.response_complete
            if not awaits_headers and self._deadline:
                self._deadline.cancel()
                self._deadline = None
            elif awaits_headers and not self._deadline:
                self._deadline = self.loop.call_later(header_seconds, self.transport.close)

    return Protocol


class _Server(uvicorn.Server):
    """On a signal, `/health/ready` and new images get 503, and requests in flight are answered before it stops."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, seconds: float) -> None:
        super().__init__(config)
        self._app = app
        self._seconds = seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        gateway = getattr(self._app.state, "gateway", None)
        if gateway is None or gateway.ending:  # not started, or signalled twice
            super().handle_exit(sig, frame)
            return
        gateway.ending = True
        asyncio.get_running_loop().create_task(self._end(sig, frame))

    async def _end(self, sig: int, frame: FrameType | None) -> None:
        deadline = time.monotonic() + self._seconds
        while self.server_state.tasks and time.monotonic() < deadline:
            await asyncio.sleep(POLL_SECONDS)
        super().handle_exit(sig, frame)
