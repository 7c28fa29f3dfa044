"""A real tritonserver and gateway with the options, variables and probes that the chart gives them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from deploy.triton import supervise
from deploy.triton.home import Home
from resnest_core.repository import network_path
from tests.deploy.chart import KEYS, environment, pods, render
from tests.deploy.files import ROOT
from tests.triton.server import HOST, REPOSITORY, START_SECONDS, TritonServer, free_ports, triton_home, triton_project

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


def copied(folder: Path) -> Path:
    """Return a copy of the committed repository: the models' interpreter writes its caches beside them."""
    return shutil.copytree(REPOSITORY, folder / "repository", ignore=shutil.ignore_patterns("__pycache__"))


@pytest.fixture(scope="module")
def server(triton_home: Home, triton_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    repository = copied(tmp_path_factory.mktemp("chart"))
    with serving(triton_home, triton_project, repository, connectionSeconds=1) as server:
        yield server


@contextmanager
def gateway(server: TritonServer, keys: Path) -> Iterator[tuple[subprocess.Popen[bytes], str, dict[str, Any]]]:
    """Run a gateway with the chart's variables; yield its process, its address and its container."""
    [found] = pods(render({"gateway": KEYS}))["gateway"]["containers"]
    variables = environment(found)
    assert variables["RESNEST_TRITON_URL"].startswith("dns:///") and variables["RESNEST_API_KEYS_FILE"]
    [port] = free_ports(1)
    variables |= {
        "RESNEST_TRITON_URL": f"dns:///localhost:{server.grpc_port}",
        "RESNEST_API_KEYS_FILE": str(keys),
        "RESNEST_HOST": "0.0.0.0",  # of the image
        "RESNEST_PORT": str(port),
    }
    command = [sys.executable, "-c", "from resnest_core.cli import main; main()", "serve"]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RESNEST_")}
    process = subprocess.Popen(command, env={**inherited, **variables})
    try:
        yield process, f"http://{HOST}:{port}", found
    finally:
        process.kill()
        process.wait()


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


def test_the_gateway_detects_and_ends(server: TritonServer, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("a-key\n")
    with gateway(server, keys) as (process, url, found), httpx.Client(base_url=url, timeout=30) as client:
        end = time.monotonic() + START_SECONDS
        for kind in ("startup", "liveness", "readiness"):
            path = found[f"{kind}Probe"]["httpGet"]["path"]
            while not answers(client, path):
                assert process.poll() is None and time.monotonic() < end
                time.sleep(0.2)
        headers = {"Content-Type": "image/jpeg"}
        assert client.post("/v1/detect", content=PHOTOGRAPH, headers=headers).status_code == 401
        detected = client.post("/v1/detect", content=PHOTOGRAPH, headers={**headers, "X-API-Key": "a-key"})
        assert detected.status_code == 200 and detected.json()["detections"]
        process.terminate()
        assert process.wait(timeout=30) in (0, -signal.SIGTERM)  # uvicorn raises the signal again


def answers(client: httpx.Client, path: str) -> bool:
    try:
        return client.get(path).status_code == 200
    except httpx.TransportError:
        return False


def test_connections_are_renewed_without_a_failure(server: TritonServer) -> None:
    """So that a gateway finds pods that were added: gRPC looks addresses up when a connection ends."""
    from resnest_client import GrpcDetector

    assert readiness(server).returncode == 0
    connections, found, end = set(), 0, time.monotonic() + 4.5
    with GrpcDetector(f"grpc://{HOST}:{server.grpc_port}", model="demo") as detector:
        while time.monotonic() < end:
            found += len(detector.detect(PHOTOGRAPH)) > 0
            connections |= {
                each.laddr.port
                for each in psutil.Process().net_connections("tcp")
                if each.raddr and each.raddr.port == server.grpc_port
            }
    assert found and len(connections) >= 3


def test_a_pod_with_a_damaged_model_lives_but_is_not_ready(
    triton_home: Home, triton_project: Path, tmp_path: Path
) -> None:
    """An update then keeps the pods that serve the model."""
    repository = copied(tmp_path)
    network_path(repository, "demo").write_bytes(b"\x08\x0a corrupt")
    with serving(triton_home, triton_project, repository) as server:
        checked = readiness(server)
        assert checked.returncode == 1 and "Triton isn't ready" in checked.stderr
        assert alive(server)
