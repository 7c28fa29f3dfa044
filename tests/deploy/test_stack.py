"""`docker compose up` for real: built, healthy, asked, watched, restarted, taken down. Needs an engine and Compose 2.

Where the engine can't pull images, `sh tests/deploy/base_image` makes the base image, and Prometheus and the blackbox
exporter come from Debian's packages.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from resnest_core import __version__
from tests.deploy.files import COMPOSE, ROOT, read_yaml
from tests.deploy.test_monitoring import expressions, metrics_in
from tests.server.test_serve import free_port

pytestmark = pytest.mark.docker

PHOTOGRAPH = ROOT / "tests/data/demo/images/000000491525.jpg"
FOUND = ["person", "couch", "dog"]
PATIENCE_SECONDS = 120
STAND_IN = """\
FROM python:3.11-slim-bookworm
RUN apt-get update && apt-get install -y --no-install-recommends {package} wget && rm -rf /var/lib/apt/lists/* \\
    && install -d -o 65534 -g 65534 /prometheus
USER 65534:65534
ENTRYPOINT ["{package}"]
"""


@dataclass(frozen=True)
class Stack:
    """The services, running."""

    files: tuple[Path, ...]
    environment: dict[str, str]
    port: int
    prometheus_port: int

    def compose(self, *arguments: str) -> str:
        """Run Compose, and return what it prints."""
        files = [part for path in self.files for part in ("--file", str(path))]
        return run(
            "docker", "compose", "--project-directory", str(ROOT), *files, *arguments, environment=self.environment
        )

    def execute(self, service: str, *command: str) -> str:
        """Run a command in a service's container."""
        return self.compose("exec", "-T", service, *command)

    def detect(self) -> dict[str, Any]:
        """Have a photograph answered."""
        url = f"http://127.0.0.1:{self.port}/v1/detect?score_threshold=0.5"
        request = urllib.request.Request(url, PHOTOGRAPH.read_bytes(), {"Content-Type": "image/jpeg"})
        return dict(json.load(urllib.request.urlopen(request, timeout=60)))

    def query(self, expr: str) -> list[dict[str, Any]]:
        """Have Prometheus answer a query."""
        url = f"http://127.0.0.1:{self.prometheus_port}/api/v1/query?{urllib.parse.urlencode({'query': expr})}"
        return list(json.load(urllib.request.urlopen(url, timeout=10))["data"]["result"])


def run(*command: str, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def override(folder: Path) -> Path:
    """Write a file that lets builds reach what this machine reaches, and replaces images that can't be pulled."""
    secrets = {
        name: {"file": path}
        for name, path in (("pip", "/etc/pip.conf"), ("certificates", "/etc/ssl/certs/ca-certificates.crt"))
        if Path(path).exists()
    }
    build = {"network": "host", "secrets": list(secrets)}
    services: dict[str, Any] = {"triton": {"build": build}, "gateway": {"build": build}}
    for service, package in (("prometheus", "prometheus"), ("blackbox", "prometheus-blackbox-exporter")):
        image = read_yaml(COMPOSE)["services"][service]["image"]
        if subprocess.run(["docker", "pull", "--quiet", image], capture_output=True).returncode:
            inline = {"dockerfile_inline": STAND_IN.format(package=package), "context": str(folder), "network": "host"}
            services[service] = {"image": f"resnest-test-{package}:{__version__}", "build": inline}
    path = folder / "override.yml"
    path.write_text(json.dumps({"services": services, "secrets": secrets}))  # JSON is YAML
    return path


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Build the images and start the services, but Grafana, under a name of their own; take everything down after."""
    if not shutil.which("docker") or subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.skip("There is no Docker engine.")
    port, prometheus_port = free_port(), free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RESNEST_")} | {
        "COMPOSE_PROJECT_NAME": f"resnest-test-{os.getpid()}",
        "GATEWAY_PORT": str(port),
        "RESNEST_DEFAULT_MODEL": "demo",
        "PROMETHEUS_PORT": str(prometheus_port),
    }
    files = (COMPOSE, override(tmp_path_factory.mktemp("compose")))
    started = Stack(files, environment, port, prometheus_port)
    services = ["triton", "gateway", "prometheus", "blackbox"]
    began = time.monotonic()
    started.compose("--profile", "monitoring", "build", *services)
    built = time.monotonic()
    try:
        started.compose("up", "--detach", "--wait", "triton", "gateway")
        ready = time.monotonic()
        started.compose("--profile", "monitoring", "up", "--detach", "--wait", *services)
        print(f"Built in {built - began:.0f} s, healthy in {ready - built:.0f} s.")
        yield started
    finally:
        print(started.compose("logs", "--no-color", "--tail", "30"))
        started.compose("--profile", "monitoring", "down", "--volumes", "--timeout", "40")


def patiently(stack: Stack) -> dict[str, Any]:
    """Ask until there is an answer: 503 is none, and says when to ask again."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return stack.detect()
        except urllib.error.HTTPError as error:
            assert error.code == 503, error.read()
            assert error.headers["Retry-After"]
        assert time.monotonic() < end
        time.sleep(0.2)


def test_an_image_is_answered(stack: Stack) -> None:
    answer = stack.detect()
    assert answer["model"] == "demo"
    assert [found["class"] for found in answer["detections"]] == FOUND
    assert all(found["mask"]["size"] == [480, 640] for found in answer["detections"])


@pytest.mark.parametrize("service", ["triton", "gateway"])
def test_containers_can_do_little(stack: Stack, service: str) -> None:
    assert stack.execute(service, "id", "-u").strip() == "10001"
    script = (
        "for folder in / /opt /models /home /var; do test -w $folder && echo $folder; done; touch /tmp/x && echo tmp"
    )
    assert stack.execute(service, "sh", "-c", script).split() == ["tmp"]
    status = dict(
        line.split(":\t") for line in stack.execute(service, "cat", "/proc/1/status").splitlines() if ":\t" in line
    )
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"


def test_images_have_no_torch(stack: Stack) -> None:
    for service in ("triton", "gateway"):
        script = "import importlib.util; print(importlib.util.find_spec('torch'))"
        assert stack.execute(service, "python3", "-c", script).strip() == "None"


def test_only_the_gateway_is_published_and_on_loopback_only(stack: Stack) -> None:
    listed = [json.loads(line) for line in stack.compose("ps", "--format", "json").splitlines()]
    published = {
        (one["Service"], port["URL"]) for one in listed for port in one["Publishers"] or () if port["PublishedPort"]
    }
    assert published == {("gateway", "127.0.0.1"), ("prometheus", "127.0.0.1")}
    project = stack.environment["COMPOSE_PROJECT_NAME"]
    assert run("docker", "network", "inspect", "--format", "{{.Internal}}", f"{project}_inside").strip() == "true"
    joined = run("docker", "inspect", "--format", "{{json .NetworkSettings.Networks}}", f"{project}-triton-1")
    assert json.loads(joined).keys() == {f"{project}_inside"}


def test_prometheus_sees_everything_that_the_dashboard_asks(stack: Stack) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    asked = [expr for expr in expressions() if not any(name.startswith("nv_gpu") for name in metrics_in(expr))]
    asked = [expr for expr in asked if "resnest_batch_images" not in expr and "status=" not in expr]
    asked = [expr for expr in asked if "resnest_decode_failures" not in expr]  # as errors, none yet
    while unanswered := [expr for expr in asked if not stack.query(expr)]:
        stack.detect()
        assert time.monotonic() < end, unanswered
        time.sleep(2)
    for expr in ('up{job="gateway"} == 1', 'up{job="triton"} == 1', 'probe_success{job="ready"} == 1'):
        assert len(stack.query(expr)) == 1, expr
    assert not stack.query("ALERTS")


def test_triton_restarted_is_found_again(stack: Stack) -> None:
    stack.compose("restart", "triton")
    answer = patiently(stack)
    assert [found["class"] for found in answer["detections"]] == FOUND


@pytest.mark.parametrize("model", ["demo_network", "demo_preprocess"])
def test_a_model_whose_process_is_killed_is_loaded_again(stack: Stack, model: str) -> None:
    """As the kernel does where a container's memory is short."""
    script = (
        "import os, pathlib\n"
        "for folder in pathlib.Path('/proc').glob('[0-9]*'):\n"
        f"    if b'/{model}/' in (folder / 'cmdline').read_bytes() and int(folder.name) != os.getpid():\n"
        "        os.kill(int(folder.name), 9)\n"
        "        print(folder.name)\n"
        "        break"
    )
    began = time.monotonic()
    assert stack.execute("triton", "python3", "-c", script).strip().isdecimal()
    time.sleep(1)
    while True:
        answer = patiently(stack)
        assert [found["class"] for found in answer["detections"]] == FOUND
        if f"{model} is loaded again" in stack.compose("logs", "--no-color", "triton"):
            break
        assert time.monotonic() - began < PATIENCE_SECONDS
    print(f"{model}: {time.monotonic() - began:.1f} s")
    stack.compose("up", "--detach", "--wait", "triton", "gateway")  # both are healthy


@pytest.mark.parametrize("service", ["triton", "gateway"])
def test_a_process_that_exceeds_its_containers_memory_harms_nobody(stack: Stack, service: str) -> None:
    greedy = "x = []\nwhile True: x.append(bytearray(2**26))"
    with pytest.raises(AssertionError):
        stack.execute(service, "python3", "-c", greedy)
    assert [found["class"] for found in patiently(stack)["detections"]] == FOUND
    stack.compose("up", "--detach", "--wait", "triton", "gateway")


def test_sizes_and_memory(stack: Stack) -> None:
    base = int(run("docker", "image", "inspect", "--format", "{{.Size}}", "python:3.11-slim-bookworm"))
    for service in ("gateway", "triton"):
        image = f"resnest-{service}:{__version__}"
        size = int(run("docker", "image", "inspect", "--format", "{{.Size}}", image)) - base
        assert size < 900e6
        container = f"{stack.environment['COMPOSE_PROJECT_NAME']}-{service}-1"
        memory = run("docker", "stats", "--no-stream", "--format", "{{.MemUsage}}", container).split()[0]
        print(f"{service}: {size / 1e6:.0f} MB above the base image, {memory} in memory.")
