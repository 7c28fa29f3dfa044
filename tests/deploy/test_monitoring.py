"""Prometheus's configuration by its own tool, and the dashboard's metrics by those that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped, unused-ignore]
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from resnest_core.detector import InProcessDetector
from resnest_core.runtimes import FakeRuntime
from resnest_server import Settings, create_app
from resnest_server.engines import LocalEngine
from tests.deploy.debian import tool
from tests.deploy.files import COMPOSE, DASHBOARD, PROMETHEUS, ROOT, read_yaml

ALERTS_TEST = Path(__file__).with_name("alerts_test.yml")
WORDS = {"by", "or", "and", "unless", "offset", "without"}
# Triton's own, as its guide to metrics lists them.
TRITONS = {
    "nv_inference_request_success",
    "nv_inference_request_failure",
    "nv_inference_count",
    "nv_inference_exec_count",
    "nv_inference_pending_request_count",
    "nv_inference_request_duration_us",
    "nv_inference_queue_duration_us",
    "nv_inference_compute_input_duration_us",
    "nv_inference_compute_infer_duration_us",
    "nv_inference_compute_output_duration_us",
    "nv_cpu_utilization",
    "nv_cpu_memory_total_bytes",
    "nv_cpu_memory_used_bytes",
    "nv_gpu_utilization",
    "nv_gpu_memory_total_bytes",
    "nv_gpu_memory_used_bytes",
    "nv_gpu_power_usage",
}
PROMETHEUS_OWN = {"up", "probe_success"}


def panels() -> list[dict[str, Any]]:
    """Return the dashboard's panels that show something."""
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    """Return the dashboard's queries, their variables filled in."""
    asked = [target["expr"] for panel in panels() for target in panel["targets"]]
    return [expr.replace("$__rate_interval", "1m").replace("$model", ".*") for expr in asked]


def alert_expressions() -> list[str]:
    groups = read_yaml(PROMETHEUS / "alerts.yml")["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


def metrics_in(expr: str) -> set[str]:
    """Return the names of metrics in a query."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(by|without)\s*\([^)]*\)', " ", re.sub(r'"[^"]*"', "", expr))
    names = re.findall(r"(?<![\w.])[a-z_][a-z0-9_]*(?!\w)(?!\s*\()", bare)
    return set(names) - WORDS


@pytest.fixture(scope="module")
def promtool() -> str:
    return tool("usr/bin/promtool", "prometheus")


@pytest.fixture(scope="module")
def gateways_metrics() -> set[str]:
    """Return the names that a gateway shows at /metrics, once it has answered."""
    settings = Settings()
    photograph = next((ROOT / "tests/data/demo/images").glob("*.jpg")).read_bytes()
    with TestClient(create_app(settings, [LocalEngine(InProcessDetector(FakeRuntime()), settings)])) as client:
        assert client.post("/v1/detect", content=photograph, headers={"Content-Type": "image/jpeg"}).is_success
        shown = client.get("/metrics").text
    names = set()
    for family in text_string_to_metric_families(shown):
        ends = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        names |= {family.name + end for end in ends}
    return names


def run(*command: str, cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_configuration(promtool: str) -> None:
    run(promtool, "check", "config", "--lint=all", "--lint-fatal", str(PROMETHEUS / "prometheus.yml"))


def test_alerts_come_when_they_must_and_only_then(promtool: str, tmp_path: Path) -> None:
    shutil.copy(PROMETHEUS / "alerts.yml", tmp_path)
    shutil.copy(ALERTS_TEST, tmp_path)
    run(promtool, "test", "rules", ALERTS_TEST.name, cwd=tmp_path)


def test_prometheus_takes_the_dashboards_queries(promtool: str, tmp_path: Path) -> None:
    rules = [{"record": f"panel:{index}", "expr": expr} for index, expr in enumerate(expressions())]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    run(promtool, "check", "rules", str(tmp_path / "rules.yml"))


def test_metrics_are_found_in_a_query() -> None:
    expr = 'max(0.95, sum by (le) (rate(a_bucket{b="c_d"}[5m]))) / (e_total unless f_g offset 5m) or vector(0)'
    assert metrics_in(expr) == {"a_bucket", "e_total", "f_g"}


@pytest.mark.parametrize("expr", [*expressions(), *alert_expressions()])
def test_metrics_that_are_asked_exist(expr: str, gateways_metrics: set[str]) -> None:
    asked = metrics_in(expr)
    assert asked
    assert asked <= gateways_metrics | TRITONS | PROMETHEUS_OWN


def test_the_dashboard_shows_what_matters() -> None:
    asked = " ".join(expressions())
    for metric in (
        "resnest_requests_total",
        "resnest_stage_seconds_bucket",
        "resnest_batch_images_sum",
        "nv_inference_exec_count",
        "resnest_queue_places_taken",
        "nv_inference_pending_request_count",
        "nv_gpu_utilization",
        "nv_gpu_memory_used_bytes",
        'status="503"',
    ):
        assert metric in asked


def test_panels_are_whole_and_do_not_overlap() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert dashboard["uid"] == "resnest"
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
    assert all(panel["title"] and panel["targets"] for panel in panels())


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    provisioning = ROOT / "deploy/grafana/provisioning"
    (source,) = read_yaml(provisioning / "datasources/prometheus.yml")["datasources"]
    (provider,) = read_yaml(provisioning / "dashboards/resnest.yml")["providers"]
    services = read_yaml(COMPOSE)["services"]
    assert source["url"] == "http://prometheus:9090" and "prometheus" in services
    uids = {target["datasource"]["uid"] for panel in panels() for target in panel["targets"]}
    assert uids == {source["uid"]}
    mounts = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    assert mounts["./deploy/grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"


def test_prometheus_asks_services_that_exist() -> None:
    services = read_yaml(COMPOSE)["services"]
    for job in read_yaml(PROMETHEUS / "prometheus.yml")["scrape_configs"]:
        for lookup in job["dns_sd_configs"]:
            assert set(lookup["names"]) <= services.keys()
