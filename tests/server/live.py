"""The gateway under uvicorn, in a thread of the tests."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from resnest_core.detector import InProcessDetector
from resnest_core.runtimes import FakeRuntime
from resnest_server import Settings, create_app
from resnest_server.engines import LocalEngine
from resnest_server.uvicorn_server import make_server


def has_ipv6() -> bool:
    """Tell whether this machine has an IPv6 loopback address."""
    with suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


ipv6 = pytest.mark.skipif(not has_ipv6(), reason="This machine has no IPv6.")


@contextmanager
def live(*runtimes: FakeRuntime, **settings: object) -> Iterator[str]:
    """Serve fake runtimes on a free port of loopback, and give the address."""
    chosen = Settings(port=0, **settings)  # type: ignore[arg-type]
    engines = [LocalEngine(InProcessDetector(runtime), chosen) for runtime in runtimes]
    server, listeners = make_server(create_app(chosen, engines), chosen)
    thread = threading.Thread(target=server.run, kwargs={"sockets": listeners})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listeners[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        for listener in listeners:
            listener.close()
