"""The runbook: each alert's part, and the metrics, messages and names that it tells to look for."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.deploy.chart import CHART, HELM, of_kind, render, validate
from tests.deploy.files import PROMETHEUS, ROOT, read_yaml
from tests.deploy.test_monitoring import TRITONS, gateways_metrics

__all__ = ["gateways_metrics"]
RUNBOOK = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
RULES: list[dict[str, Any]] = [
    rule for group in read_yaml(PROMETHEUS / "alerts.yml")["groups"] for rule in group["rules"]
]
HEADINGS = re.findall(r"^## (.+)$", RUNBOOK, re.MULTILINE)
SOURCES = [*ROOT.glob("server/**/*.py"), *ROOT.glob("deploy/triton/*.py"), *CHART.glob("templates/*")]
MESSAGES = (
    "images in flight, its limit",
    "away in Triton",
    "fails in Triton",
    "failed on a test image",
    "has no model for Triton",
    "loading it again didn't help: the server ends",
    "file of keys",
)


def anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_each_alert_names_its_part(rule: dict[str, Any]) -> None:
    path, _, part = rule["annotations"]["runbook"].partition("#")
    assert path == "docs/runbook.md" and part in map(anchor, HEADINGS)
    row = rf"^\|.*`{rule['alert']}`.*\(#{part}\) \|$"
    assert re.search(row, RUNBOOK, re.MULTILINE)


def test_each_part_has_a_symptom_a_check_and_an_action() -> None:
    parts = re.split(r"^## .+$", RUNBOOK, flags=re.MULTILINE)[1:]
    assert len(parts) == len(HEADINGS) >= 9
    for heading, part in zip(HEADINGS, parts, strict=True):
        if heading != "Replace a model":
            assert all(f"**{word}.**" in part for word in ("Symptom", "Check", "Act")), heading


def test_metrics_and_alerts_exist(gateways_metrics: set[str]) -> None:
    named = set(re.findall(r"\b(?:resnest|nv)_[a-z_]+\b", RUNBOOK))
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in gateways_metrics}
    assert len(named) >= 6
    assert named <= gateways_metrics | families | TRITONS
    alerts = set(re.findall(r"`([A-Z]\w+(?:Away|Ready|Machines|Error))`", RUNBOOK))
    assert alerts == {rule["alert"] for rule in RULES}


@pytest.mark.parametrize("message", MESSAGES)
def test_messages_are_those_of_the_code(message: str) -> None:
    assert any(message in path.read_text(encoding="utf-8") for path in SOURCES)


def test_the_service_of_blue_and_green_selects_one_releases_gateways() -> None:
    service = read_yaml(HELM / "blue-green-service.yaml")
    validate(service, "1.30")
    own = of_kind(render({}), "Service")["gateway"]["spec"]
    instance = "app.kubernetes.io/instance"
    assert service["spec"]["selector"] == {**own["selector"], instance: "resnest-blue"}
    assert service["spec"]["ports"] == own["ports"]
    assert f"{instance}: resnest-blue" not in RUNBOOK and f'"{instance}": "resnest-green"' in RUNBOOK


def test_kubectl_names_what_the_chart_makes() -> None:
    names = {f"{each['kind'].lower()}/{each['metadata']['name']}" for each in render({}, name="resnest")}
    for page in ("runbook.md", "kubernetes.md"):
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        named = set(re.findall(r"\b((?:deployment|service)/resnest-(?:triton|gateway))\b", text))
        assert named and named <= names
