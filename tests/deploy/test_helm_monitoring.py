"""The chart's autoscalers, monitors, alert rules and dashboards."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped, unused-ignore]
from fastapi.testclient import TestClient

from resnest_core.detector import InProcessDetector
from resnest_core.runtimes import FakeRuntime
from resnest_server import Settings, create_app
from resnest_server.engines import LocalEngine
from tests.deploy.chart import (
    HELM,
    MONITORED,
    NAME,
    NAMESPACE,
    SCALED,
    of_kind,
    render,
)
from tests.deploy.debian import tool
from tests.deploy.files import DASHBOARD, PROMETHEUS, read_yaml

COMPONENTS = ("triton", "gateway")


def test_what_is_scaled_has_no_number_of_pods() -> None:
    resources = render({"triton": SCALED, "gateway": SCALED})
    for component, scaler in of_kind(resources, "HorizontalPodAutoscaler").items():
        assert "replicas" not in of_kind(resources, "Deployment")[component]["spec"]
        assert scaler["spec"]["scaleTargetRef"]["name"] == f"{NAME}-{component}"
    assert of_kind(resources, "HorizontalPodAutoscaler").keys() == set(COMPONENTS)
    assert not of_kind(render({}), "HorizontalPodAutoscaler")


def test_the_scaler_and_the_adapter_read_a_metric_of_the_gateway() -> None:
    [metric] = of_kind(render({"triton": SCALED}), "HorizontalPodAutoscaler")["triton"]["spec"]["metrics"]
    name = metric["object"]["metric"]["name"]
    assert metric["object"]["describedObject"] == {"apiVersion": "v1", "kind": "Service", "name": f"{NAME}-gateway"}
    settings = Settings()
    with TestClient(create_app(settings, [LocalEngine(InProcessDetector(FakeRuntime()), settings)])) as client:
        assert re.search(rf"^{name}\{{", client.get("/metrics").text, re.MULTILINE)
    [rule] = read_yaml(HELM / "prometheus-adapter.yaml")["rules"]["custom"]
    assert rule["seriesQuery"].startswith(f"{name}{{") and rule["name"]["as"] == name
    assert rule["resources"]["overrides"]["service"] == {"resource": "service"}


@pytest.fixture(scope="module")
def monitored() -> list[dict[str, Any]]:
    return render({"monitoring": MONITORED})


def test_rules_are_those_of_prometheus(monitored: list[dict[str, Any]], tmp_path: Path) -> None:
    [rule] = [each for each in monitored if each["kind"] == "PrometheusRule"]
    assert rule["spec"] == read_yaml(PROMETHEUS / "alerts.yml")
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rule["spec"]))
    command = [tool("usr/bin/promtool", "prometheus"), "check", "rules", "rules.yml"]
    checked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_the_dashboard_is_grafanas(monitored: list[dict[str, Any]]) -> None:
    [config] = [each for each in monitored if each["kind"] == "ConfigMap"]
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert {name: json.loads(text) for name, text in config["data"].items()} == {
        DASHBOARD.name: json.loads(DASHBOARD.read_text(encoding="utf-8"))
    }


def test_jobs_have_the_names_that_alerts_ask_for(monitored: list[dict[str, Any]]) -> None:
    asked = set(re.findall(r'job="(\w+)"', (PROMETHEUS / "alerts.yml").read_text(encoding="utf-8")))
    monitors = of_kind(monitored, "ServiceMonitor")
    services = of_kind(monitored, "Service")
    jobs = {services[name]["metadata"]["labels"][each["spec"]["jobLabel"]] for name, each in monitors.items()}
    [probe] = [each for each in monitored if each["kind"] == "Probe"]
    assert asked == jobs | {probe["spec"]["jobName"]}
    for name, each in monitors.items():
        ports = [port["name"] for port in services[name]["spec"]["ports"]]
        assert all(endpoint["port"] in ports for endpoint in each["spec"]["endpoints"])
        assert each["metadata"]["labels"].items() >= MONITORED["labels"].items()
    [target] = probe["spec"]["targets"]["staticConfig"]["static"]
    assert target == f"http://{NAME}-gateway.{NAMESPACE}.svc:8000/health/ready"
