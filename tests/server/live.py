"""The gateway under uvicorn on fake runtimes: in a thread of the tests, or in a process that they can signal.

`python -m tests.server.live --port PORT` is such a process; its network takes NETWORK_SECONDS.
"""

from __future__ import annotations

import socket
import sys
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

PROCESS = (sys.executable, "-m", "tests.server.live")
NETWORK_SECONDS = 0.05


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


def main() -> None:
    """Serve a fake runtime on a port of loopback until the process is signalled to stop."""
    settings = Settings(port=int(sys.argv[sys.argv.index("--port") + 1]))
    runtime = FakeRuntime(before_run=lambda _: time.sleep(NETWORK_SECONDS))
    app = create_app(settings, [LocalEngine(InProcessDetector(runtime), settings)])
    server, listeners = make_server(app, settings)
    server.run(sockets=listeners)


if __name__ == "__main__":
    main()
