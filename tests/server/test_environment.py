"""The gateway's environment: Kubernetes' variables of Services, misspelt settings, and health checks that read it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from pydantic import ValidationError

from resnest_core.runtimes import FakeRuntime
from resnest_core.telemetry_off import ALLOW
from resnest_server import Settings, create_app
from resnest_server.environment import warnings
from tests.deploy.files import GATEWAY, TRITON, TRITON_GPU, instructions
from tests.server.live import live
from tests.server.test_serve import ENVIRONMENT, RESNEST, ROOT


def links(service: str, port: int = 8000, name: str = "HTTP", address: str = "10.0.0.1") -> dict[str, str]:
    """Return the variables that Kubernetes makes of a Service."""
    url, prefix = f"tcp://{address}:{port}", service.upper().replace("-", "_")
    return {
        f"{prefix}_SERVICE_HOST": address,
        f"{prefix}_SERVICE_PORT": str(port),
        f"{prefix}_SERVICE_PORT_{name}": str(port),
        f"{prefix}_PORT": url,
        f"{prefix}_PORT_{port}_TCP": url,
        f"{prefix}_PORT_{port}_TCP_PROTO": "tcp",
        f"{prefix}_PORT_{port}_TCP_PORT": str(port),
        f"{prefix}_PORT_{port}_TCP_ADDR": address,
    }


SERVICES = ["resnest", "resnest-triton", "resnest-host", "resnest-max-queue", "resnest-api-keys"]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in [name for name in os.environ if name.startswith("RESNEST_")]:
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("address", ["10.0.0.1", "[fd00::1]"])
def test_variables_of_services_change_no_setting(environment: pytest.MonkeyPatch, service: str, address: str) -> None:
    default = Settings()
    for name, value in links(service, address=address).items():
        environment.setenv(name, value)
    assert Settings() == default
    assert Settings(port=9000).port == 9000
    [warning] = warnings(Settings.model_fields)
    assert f"{service.upper().replace('-', '_')}_PORT" in warning and "Kubernetes" in warning


def test_all_services_are_named_in_one_warning(environment: pytest.MonkeyPatch) -> None:
    for service in SERVICES:
        for name, value in links(service).items():
            environment.setenv(name, value)
    assert len(warnings(Settings.model_fields)) == 1


def test_settings_beside_a_service_hold(environment: pytest.MonkeyPatch) -> None:
    for name, value in {**links("resnest-triton"), "RESNEST_PORT": "8001", "RESNEST_MAX_QUEUE": "32"}.items():
        environment.setenv(name, value)
    settings = Settings()
    assert (settings.port, settings.max_queue, settings.triton_url) == (8001, 32, "localhost:8001")


@pytest.mark.parametrize("value", ["tcp:8000", "8000/tcp", "http://10.0.0.1:8000", "eighty"])
def test_a_port_that_is_none_is_refused(environment: pytest.MonkeyPatch, value: str) -> None:
    environment.setenv("RESNEST_PORT", value)
    with pytest.raises(ValidationError):
        Settings()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("RESNEST_MAX_QUEU", "did you mean RESNEST_MAX_QUEUE?"),
        ("RESNEST_LOGLEVEL", "did you mean RESNEST_LOG_LEVEL?"),
        ("resnest_api_kays", "did you mean RESNEST_API_KEYS?"),
        ("RESNEST_COLOUR", "check its name"),
    ],
)
def test_a_variable_that_nothing_reads_is_told(
    environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, hint: str
) -> None:
    environment.setenv(name, "secret-value")
    create_app()
    [line] = [record.message for record in caplog.records if name in record.message]
    assert hint in line and "secret-value" not in line


def test_variables_that_are_read_are_not_told(environment: pytest.MonkeyPatch) -> None:
    for name in (*(f"RESNEST_{name.upper()}" for name in Settings.model_fields), "RESNEST_API_KEY", ALLOW):
        environment.setenv(name, "1")
    environment.setenv("RESNEST_MAX_QUEU", "")
    environment.setenv("RESNESTING", "1")
    assert warnings(Settings.model_fields) == []


def test_serve_warns_once_before_it_loads_anything(tmp_path: Path) -> None:
    variables = ENVIRONMENT | links("resnest") | {"RESNEST_MAX_QUEU": "9", "RESNEST_LOG_FORMAT": "text"}
    command = [*RESNEST, "serve", "--repository", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert [done.stderr.count(name) for name in ("RESNEST_PORT_8000_TCP,", "RESNEST_MAX_QUEU ")] == [1, 1]
    assert done.stderr.splitlines()[-1].startswith("resnest: There are no models in")


def health_check(dockerfile: Path) -> list[str]:
    """Return the command of an image's HEALTHCHECK, for this machine."""
    [line] = [line for line in instructions(dockerfile) if line.startswith("HEALTHCHECK ")]
    _, *arguments = json.loads(line.partition(" CMD ")[2])
    return [sys.executable, *arguments]


PROXIES = dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"), "http://127.0.0.1:9")


@pytest.mark.parametrize("variables", [{}, PROXIES], ids=["direct", "proxy"])
def test_the_gateways_health_check(variables: dict[str, str]) -> None:
    with live(FakeRuntime()) as url:
        port = url.rpartition(":")[2]
        for value, code in ((port, 0), ("9", 1)):
            environment = ENVIRONMENT | variables | {"RESNEST_PORT": value}
            done = subprocess.run(health_check(GATEWAY), env=environment, capture_output=True, check=False)
            assert done.returncode == code, done.stderr


def test_the_gateways_health_check_ignores_a_services_port() -> None:
    """It asks the default port, which the gateway listens on then."""
    with live(FakeRuntime()) as url:
        command = [part.replace("else 8000", f"else {url.rpartition(':')[2]}") for part in health_check(GATEWAY)]
        subprocess.run(command, env=ENVIRONMENT | links("resnest", port=9), check=True)


@pytest.mark.parametrize("dockerfile", [TRITON, TRITON_GPU], ids=["cpu", "gpu"])
def test_tritons_health_check(dockerfile: Path) -> None:
    class Ready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(HTTPStatus.OK if self.path == "/v2/health/ready" else HTTPStatus.NOT_FOUND)
            self.end_headers()

    script = [
        part.replace("/opt/supervise.py", str(ROOT / "deploy/triton/supervise.py")) for part in health_check(dockerfile)
    ]
    with HTTPServer(("127.0.0.1", 0), Ready) as server, live(FakeRuntime()) as other:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for port, code in ((server.server_port, 0), (other.rpartition(":")[2], 1)):
            command = [*script, f"--http-port={port}"]
            done = subprocess.run(command, env=ENVIRONMENT | PROXIES, capture_output=True, text=True, check=False)
            assert (done.returncode, "404" in done.stderr) == (code, bool(code))
        server.shutdown()
