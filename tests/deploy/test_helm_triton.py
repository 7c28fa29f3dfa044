"""A real tritonserver with the options and probes that the chart gives it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.triton import supervise
from deploy.triton.home import Home
from resnest_core.repository import network_path
from tests.deploy.chart import pods, render
from tests.deploy.files import ROOT
from tests.triton.server import HOST, REPOSITORY, START_SECONDS, TritonServer, triton_home, triton_project

__all__ = ["triton_home", "triton_project"]
pytestmark = pytest.mark.triton
PHOTOGRAPH = next((ROOT / "tests/data/demo/images").glob("*.jpg")).read_bytes()


def container(**triton: Any) -> dict[str, Any]:
    [found] = pods(render({"triton": triton}))["triton"]["containers"]
    return dict(found)


@contextmanager
def serving(home: Home, project: Path, repository: Path, **triton: Any) -> Iterator[TritonServer]:
    """Run Triton with the chart's options, once it listens."""
    options = [each for each in container(**triton)["args"] if not each.startswith("--model-repository=")]
    server = TritonServer(home, project, repository, repository.with_name("log"), *options, supervised=True)
    try:
        server.start(wait=False)
        end = time.monotonic() + START_SECONDS
        while not alive(server):
            assert time.monotonic() < end, server.log.read_text()[-5000:]
            time.sleep(0.2)
        yield server
    finally:
        server.close()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a copy of the committed repository: the models' interpreter writes its caches beside them."""
    return shutil.copytree(REPOSITORY, tmp_path / "repository", ignore=shutil.ignore_patterns("__pycache__"))


def alive(server: TritonServer) -> bool:
    """Make the start-up and liveness probes' request."""
    probed = {container()[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness")}
    assert len(probed) == 1
    try:
        with urllib.request.urlopen(f"http://{server.http}{probed.pop()}", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def readiness(server: TritonServer) -> subprocess.CompletedProcess[str]:
    """Run the readiness probe's command."""
    [python, script, *options] = container()["readinessProbe"]["exec"]["command"]
    assert (python, script) == ("python3", "/opt/supervise.py")
    command = [sys.executable, supervise.__file__, *options, f"--http-port={server.http_port}"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)


def test_connections_are_renewed_without_a_failure(triton_home: Home, triton_project: Path, repository: Path) -> None:
    """So that a gateway finds pods that were added: gRPC looks addresses up when a connection ends."""
    from resnest_client import GrpcDetector

    with serving(triton_home, triton_project, repository, connectionSeconds=1) as server:
        assert readiness(server).returncode == 0
        connections, answers, end = set(), 0, time.monotonic() + 4.5
        with GrpcDetector(f"grpc://{HOST}:{server.grpc_port}", model="demo") as detector:
            while time.monotonic() < end:
                answers += len(detector.detect(PHOTOGRAPH)) > 0
                connections |= {
                    each.laddr.port
                    for each in psutil.Process().net_connections("tcp")
                    if each.raddr and each.raddr.port == server.grpc_port
                }
        assert answers and len(connections) >= 3


def test_a_pod_with_a_damaged_model_lives_but_is_not_ready(
    triton_home: Home, triton_project: Path, repository: Path
) -> None:
    """An update then keeps the pods that serve the model."""
    network_path(repository, "demo").write_bytes(b"\x08\x0a corrupt")
    with serving(triton_home, triton_project, repository) as server:
        checked = readiness(server)
        assert checked.returncode == 1 and "Triton isn't ready" in checked.stderr
        assert alive(server)
