"""The real gateway on a loopback socket, in a thread, with a count of requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import uvicorn

from resnest_core.detector import InProcessDetector
from resnest_core.runtimes import FakeRuntime
from resnest_server import Settings, create_app
from resnest_server.engines import LocalEngine

START_SECONDS = 10


class Served:
    """A gateway at `url` until `stop`.

    `clients` are the connections that asked, by port; `most` is how many detections were in flight at a time.
    """

    def __init__(self, *runtimes: FakeRuntime, **settings: object) -> None:
        chosen = Settings(**settings)  # type: ignore[arg-type]
        engines = [LocalEngine(InProcessDetector(runtime), chosen) for runtime in runtimes or (FakeRuntime(),)]
        self._app: Any = create_app(chosen, engines)
        self.requests = 0
        self.clients: set[int] = set()
        self.in_flight = 0
        self.most = 0
        config = uvicorn.Config(self._count, host="127.0.0.1", port=0, log_config=None, interface="asgi3")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not self._server.started:
            assert time.monotonic() < deadline and self._thread.is_alive(), "the gateway did not start"
            time.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(START_SECONDS)
        assert not self._thread.is_alive()

    async def _count(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        detects = scope["path"].endswith("/detect")
        self.requests += 1
        self.clients.add(scope["client"][1])
        self.in_flight += detects
        self.most = max(self.most, self.in_flight)
        try:
            await self._app(scope, receive, send)
        finally:
            self.in_flight -= detects


Serve = Callable[..., Served]
