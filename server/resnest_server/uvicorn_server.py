"""The gateway under uvicorn: limits of connections, and graceful shutdown."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from resnest_server import environment, logs, telemetry
from resnest_server.access import require_keys_in_public
from resnest_server.app import create_app
from resnest_server.connections import Connections, connections_that_fit
from resnest_server.engine_loading import load_engines
from resnest_server.http_protocol import LimitedHttpProtocol, Shared
from resnest_server.listening import BACKLOG, authority, listen
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
        ParameterError: the address can't be listened on, or the process may open too few files.
    """
    limit = connections_that_fit(settings.max_connections)
    shared = Shared(settings, Connections(limit, settings.max_connections_per_address))
    protocol: Any = partial(LimitedHttpProtocol, shared=shared)
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        timeout_keep_alive=settings.idle_seconds,
        timeout_graceful_shutdown=settings.shutdown_seconds,
        server_header=False,
        access_log=False,
        log_config=None,
    )
    # As many as there are file descriptors for: they are accepted before a connection can be refused.
    return _Server(config, app, shared), listen(settings.host, settings.port, min(limit, BACKLOG))


class _Server(uvicorn.Server):
    """On a signal, `/health/ready` and new images get 503, and requests in flight are answered before it stops."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, shared: Shared) -> None:
        super().__init__(config)
        self._app = app
        self._shared = shared

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        gateway = getattr(self._app.state, "gateway", None)
        if gateway is None or gateway.ending:  # not started, or signalled twice
            super().handle_exit(sig, frame)
            return
        gateway.ending = self._shared.ending = True
        for connection in self._shared.connections:
            connection.end_soon()
        asyncio.get_running_loop().create_task(self._end(sig, frame))

    async def _end(self, sig: int, frame: FrameType | None) -> None:
        deadline = time.monotonic() + self._shared.settings.shutdown_seconds
        while self.server_state.tasks and time.monotonic() < deadline:
            await asyncio.sleep(POLL_SECONDS)
        self.config.timeout_graceful_shutdown = max(int(deadline - time.monotonic()), 1)  # what is left of it
        super().handle_exit(sig, frame)
