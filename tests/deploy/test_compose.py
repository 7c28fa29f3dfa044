"""What docker-compose.yml, the Dockerfiles and .dockerignore promise, read from them: no engine is needed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import resnest_core
from deploy.triton.home import NO_REPORTS, Home
from deploy.triton.serve import command
from resnest_core.telemetry_off import ALLOW, SWITCHES
from resnest_server import Settings
from tests.deploy.files import COMPOSE, GATEWAY, ROOT, TRITON, TRITON_GPU, instructions, read_yaml

SERVICES: dict[str, dict[str, Any]] = read_yaml(COMPOSE)["services"]
PROFILES = {
    "triton": [],
    "gateway": [],
    "triton-gpu": ["gpu"],
    "export": ["export"],
    "gateway-gpu": ["gpu"],
    "prometheus": ["monitoring"],
    "blackbox": ["monitoring"],
    "grafana": ["monitoring"],
}
DOCKERFILES = pytest.mark.parametrize("dockerfile", [GATEWAY, TRITON, TRITON_GPU], ids=lambda path: path.parent.name)
SERVERS = {name: service for name, service in SERVICES.items() if name != "export"}
each_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
each_server = pytest.mark.parametrize("service", SERVERS.values(), ids=SERVERS)


def test_services_and_profiles() -> None:
    assert {name: service.get("profiles", []) for name, service in SERVICES.items()} == PROFILES


@each_service
def test_only_loopback_is_published(service: dict[str, Any]) -> None:
    assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", []))


@each_service
def test_every_service_is_hardened_and_bounded(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == ("no" if service is SERVICES["export"] else "unless-stopped")
    assert {"mem_limit", "pids_limit", "networks", "logging"} <= service.keys()
    assert not {"privileged", "network_mode", "pid", "user", "cap_add"} & service.keys()


@each_service
def test_images_have_versions(service: dict[str, Any]) -> None:
    name, _, tag = service["image"].partition(":")
    assert re.fullmatch(r"v?\d+\.\d+\.\d+", tag)
    if name.startswith("resnest-"):
        assert tag == resnest_core.__version__


@each_server
def test_every_server_tells_of_its_health(service: dict[str, Any]) -> None:
    if "build" in service:
        assert any(line.startswith("HEALTHCHECK") for line in instructions(ROOT / service["build"]["dockerfile"]))
    else:
        assert service["healthcheck"]["test"][0] == "CMD"


@each_server
def test_health_checks_use_no_proxy(service: dict[str, Any]) -> None:
    """Docker's configuration may name a proxy for every container."""
    if "build" in service:
        [check] = [
            line for line in instructions(ROOT / service["build"]["dockerfile"]) if line.startswith("HEALTHCHECK")
        ]
        assert "ProxyHandler({})" in check or '"/opt/supervise.py", "--check"' in check  # whose test is in tests/triton
    else:
        assert service["healthcheck"]["test"][:4] == ["CMD", "env", "-u", "http_proxy"]


@DOCKERFILES
def test_images_report_to_nobody(dockerfile: Path) -> None:
    """Also where a program other than this project's runs in them."""
    variables = " ".join(line for line in instructions(dockerfile) if line.startswith("ENV "))
    for name in ("ORT_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        assert f"{name}={SWITCHES[name]}" in variables.split()
    assert "openvino-telemetry" not in (ROOT / "deploy/triton/requirements.txt").read_text().split()


def test_triton_reports_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(Path("/home"))
    for name in (*SWITCHES, ALLOW):
        monkeypatch.delenv(name, raising=False)
    environment = home.environment(Path("/project"))
    assert NO_REPORTS.items() <= environment.items() and NO_REPORTS.items() <= SWITCHES.items()
    monkeypatch.setenv(ALLOW, "1")
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    environment = home.environment(Path("/project"))
    assert (environment[ALLOW], environment["ORT_DISABLE_TELEMETRY"]) == ("1", "0")


def test_grafana_asks_nothing_of_its_maker() -> None:
    off = {
        "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_NEWS_NEWS_FEED_ENABLED": "false",
        "GF_PLUGINS_PREINSTALL_DISABLED": "true",
        "GF_PLUGINS_PUBLIC_KEY_RETRIEVAL_DISABLED": "true",
        "GF_SECURITY_DISABLE_GRAVATAR": "true",
        "GF_SNAPSHOTS_EXTERNAL_ENABLED": "false",
    }
    assert off.items() <= SERVICES["grafana"]["environment"].items()


def test_services_wait_for_those_that_they_need() -> None:
    for gateway, triton in (("gateway", "triton"), ("gateway-gpu", "triton-gpu")):
        assert SERVICES[gateway]["depends_on"] == {triton: {"condition": "service_healthy"}}
        assert SERVICES[gateway]["environment"]["RESNEST_TRITON_URL"] == f"{triton}:8001"
        assert SERVICES[gateway]["networks"] == ["inside", "edge"]
        assert SERVICES[triton]["networks"] == ["inside"]
        assert "ports" not in SERVICES[triton]


def test_what_is_mounted_exists_and_only_the_export_writes() -> None:
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source, _, target = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", volume).partition(":")
            if source.startswith("."):
                assert (ROOT / source).exists()
                assert target.endswith(":ro") or (name, target) in {("export", "/models"), ("export", "/files")}
            else:
                assert source in read_yaml(COMPOSE)["volumes"]


def test_what_the_driver_compiles_outlives_a_container_with_a_read_only_root() -> None:
    triton = SERVICES["triton-gpu"]
    folder = triton["environment"]["CUDA_CACHE_PATH"]
    assert triton["read_only"] and f"cuda-cache:{folder}" in triton["volumes"]
    assert SERVICES["triton"]["volumes"] == triton["volumes"][:1], "the models' mount is repeated"
    lines = instructions(TRITON_GPU)
    made = lines.index(f"RUN install -d -o 1000 -g 1000 {folder}")
    assert "USER 1000:1000" in lines[made:], "only root can make the folder"


def test_the_gateways_variables_are_settings() -> None:
    for name in ("gateway", "gateway-gpu"):
        for variable in SERVICES[name]["environment"]:
            assert variable.removeprefix("RESNEST_").lower() in Settings.model_fields


def test_what_opens_the_gateway_asks_for_keys() -> None:
    opened = read_yaml(ROOT / "deploy/public.yml")["services"]
    assert opened.keys() == {"gateway"}
    assert opened["gateway"]["environment"]["RESNEST_INSECURE"] == "false"
    assert opened["gateway"]["environment"]["RESNEST_API_KEYS"].startswith("${RESNEST_API_KEYS:?")


@DOCKERFILES
def test_images_run_as_nobody_in_particular(dockerfile: Path) -> None:
    final = instructions(dockerfile)
    users = [line.split()[1] for line in final if line.startswith("USER ")]
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", users[-1])
    assert any(line.startswith("HEALTHCHECK ") for line in final)
    assert any(line.startswith("ENTRYPOINT [") for line in final)


@DOCKERFILES
def test_what_is_copied_is_there_and_not_ignored(dockerfile: Path) -> None:
    ignored, *allowed = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert ignored == "*"
    kept = [line.removeprefix("!") for line in allowed if line.startswith("!")]
    assert all(list(ROOT.glob(path)) for path in kept)
    for line in instructions(dockerfile):
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert source == "." or any(path.startswith(source) or Path(source).match(path) for path in kept), (
                    source
                )


@DOCKERFILES
def test_bases_have_versions_and_no_server_brings_torch(dockerfile: Path) -> None:
    lines = instructions(dockerfile)
    bases = [line.partition("=")[2] for line in lines if line.startswith("ARG ") and ":" in line]
    assert bases and all(re.search(r":\d+\.\d+", base) for base in bases)
    stages = re.split(r"\n(?=FROM )", "\n".join(lines))
    servers = [stage for stage in stages if not stage.partition("\n")[0].endswith(" AS export")]
    assert not any(re.search(r"torch|\[\w*export|'export'|'dev'", stage) for stage in servers)


@pytest.mark.parametrize("dockerfile", [TRITON, TRITON_GPU], ids=["cpu", "gpu"])
def test_triton_gets_the_options_that_it_gets_outside_a_container(dockerfile: Path) -> None:
    lines = instructions(dockerfile)
    given = {
        option
        for line in lines
        if line.startswith(("CMD [", "ENTRYPOINT ["))
        for option in json.loads(line.partition(" ")[2])
    }
    # Addresses, ports and shared memory are a container's own; so is whether there is a GPU.
    own = r"--(model-repository|backend-directory|(http|grpc|metrics)-(address|port)|backend-config|allow-gpu-metrics)="
    outside = command(Home(Path("/home")), Path("/models"), host="0.0.0.0", http_port=1, grpc_port=2, metrics_port=3)
    assert {option for option in outside[1:] if not re.match(own, option)} <= given
