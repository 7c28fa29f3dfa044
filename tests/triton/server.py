"""A real tritonserver for tests: import the fixtures `triton_home` and `triton_project`, or also `triton`, from here.

`TritonServer` runs one on a repository; it starts, stops, is killed and started again on the same ports.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from typing_extensions import Self

from deploy.triton import supervise
from deploy.triton.home import Home, build, install_project
from deploy.triton.serve import command, extended
from resnest_core.buckets import Buckets
from resnest_core.card import read_card
from resnest_core.closeable import Closeable
from resnest_core.repository import network_path
from resnest_export.triton_repository.options import Serving
from resnest_export.triton_repository.writer import write_model, write_repository
from tests.core.networks import write_mirrored_demo

ROOT = Path(__file__).parents[2]
REPOSITORY = ROOT / "model_repository"
HOST = "127.0.0.1"
START_SECONDS = 120
STOP_SECONDS = 40
TIGHT = Serving(runtime="openvino", buckets=Buckets.RATIOS, max_batch=2, max_queue=2, threads=1)


class TritonServer(Closeable):
    """A tritonserver on free ports of loopback; its log is a file. `supervised`: under deploy/triton/supervise.py."""

    def __init__(
        self, home: Home, project: Path, repository: Path, log: Path, *more: str, supervised: bool = False
    ) -> None:
        self.http_port, self.grpc_port, self.metrics_port = free_ports(3)
        self.log = log
        self.repository = repository
        self._environment = home.environment(project)
        self._command = command(
            home,
            repository,
            host=HOST,
            http_port=self.http_port,
            grpc_port=self.grpc_port,
            metrics_port=self.metrics_port,
        )
        self._command = extended(self._command, more)
        if supervised:
            self._command[:0] = [sys.executable, supervise.__file__, f"--http-port={self.http_port}", "--"]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def http(self) -> str:
        """Host and port, as tritonclient takes them."""
        return f"{HOST}:{self.http_port}"

    @property
    def grpc(self) -> str:
        return f"{HOST}:{self.grpc_port}"

    @property
    def metrics(self) -> str:
        return f"http://{HOST}:{self.metrics_port}/metrics"

    def start(self, *, wait: bool = True) -> Self:
        """Start it, and wait until it is ready."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        if wait:
            self.wait()
        return self

    def wait(self) -> None:
        """Wait until it is ready."""
        end = time.monotonic() + START_SECONDS
        while not self.is_ready():
            if self.process is None or self.process.poll() is not None or time.monotonic() > end:
                self.close()
                raise AssertionError(f"tritonserver did not start:\n{self.log.read_text()[-5000:]}")
            time.sleep(0.1)

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.http}/v2/health/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self.process is not None:
            self.process.kill()
            self._reap()

    def close(self) -> None:
        """Let it finish, and end."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
            self._reap()

    def _reap(self) -> None:
        """Wait for the server, and end its models' processes where they outlive it."""
        assert self.process is not None
        self.process.wait()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process = None


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on."""
    listeners = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def add_model(repository: Path, source: Path, name: str, new_name: str, serving: Serving) -> Path:
    """Put a model under another name into a repository, and return the path of its network."""
    path = network_path(repository, new_name)
    path.parent.mkdir(parents=True)
    shutil.copy(network_path(source, name), path)
    write_model(repository, read_card(path).model_copy(update={"name": new_name}), serving)
    return path


@pytest.fixture(scope="session")
def triton_home() -> Home:
    """Return a built tritonserver; where that is impossible, CI fails, and others are told why."""
    try:
        return build()
    except (RuntimeError, subprocess.CalledProcessError) as error:
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def triton_project(triton_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install this project, as it is now, for the models to import."""
    return install_project(triton_home, tmp_path_factory.mktemp("triton") / "project")


@pytest.fixture(scope="session")
def triton(triton_home: Home, triton_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """Run a server on the committed `demo`, two copies of it, and a model whose file says that it is `demo`.

    `broken` has a damaged network, `tight` runs in OpenVINO with buckets, small batches and a short queue; `fruit` has
    other weights.
    """
    folder = tmp_path_factory.mktemp("triton_repository")
    repository = folder / "repository"
    repository.mkdir()
    for path in REPOSITORY.glob("demo*"):  # not in place: the models' interpreter writes its caches beside them
        shutil.copytree(path, repository / path.name, ignore=shutil.ignore_patterns("__pycache__"))
    add_model(repository, REPOSITORY, "demo", "broken", Serving()).write_bytes(b"\x08\x0a corrupt")
    add_model(repository, REPOSITORY, "demo", "tight", TIGHT)
    write_mirrored_demo(network_path(repository, "fruit"))
    write_repository(repository, Serving(), ("fruit",))
    with TritonServer(triton_home, triton_project, repository, folder / "log").start() as server:
        yield server
