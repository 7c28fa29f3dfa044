"""The Helm chart as it is rendered: Helm's lint, Kubernetes' schemas, versions, and notes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped, unused-ignore]
import pytest

import resnest_core
from tests.deploy.chart import (
    CHART,
    CLAIM,
    HELM,
    KEYS,
    NAME,
    NAMESPACE,
    NOTES,
    VARIANTS,
    containers,
    on_gpu,
    pods,
    render,
    templates,
    validate,
)
from tests.deploy.files import COMPOSE, read_yaml
from tests.deploy.helm import lint_chart

OPERATORS = "monitoring.coreos.com/v1"  # resources that Kubernetes itself has no schema of
each_variant = pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)


@each_variant
def test_lint_finds_no_fault(values: dict[str, Any]) -> None:
    report = lint_chart(CHART, values)
    assert not report["errors"]
    assert [each["error"] for each in report["messages"]] == ["icon is recommended"]


@each_variant
@pytest.mark.parametrize("version", ["1.30", kubernetes_validate.latest_version()])
def test_resources_meet_kubernetes_schemas(values: dict[str, Any], version: str) -> None:
    resources = render(values)
    for resource in resources:
        if resource["apiVersion"] != OPERATORS:
            validate(resource, version)
    names = [(each["kind"], each["metadata"]["name"]) for each in resources]
    assert len(names) == len(set(names))
    assert all(each["metadata"]["namespace"] == NAMESPACE for each in resources)
    assert not {kind for kind, _ in names} & {"Secret", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}


def test_a_misspelt_field_would_be_found() -> None:
    [deployment] = [each for each in render({}) if each["metadata"]["name"] == f"{NAME}-triton"][:1]
    deployment["spec"]["minReadySecond"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(deployment, "1.30")


@pytest.mark.parametrize("path", sorted(HELM.glob("*.yaml")), ids=lambda path: path.name)
def test_files_beside_the_chart_are_yaml(path: Path) -> None:
    assert read_yaml(path)


def test_versions_are_the_projects() -> None:
    chart = read_yaml(CHART / "Chart.yaml")
    assert chart["version"] == chart["appVersion"] == resnest_core.__version__
    services = read_yaml(COMPOSE)["services"]
    for values, triton in (({}, "triton"), (on_gpu(CLAIM), "triton-gpu")):
        images = {name: pod["containers"][0]["image"] for name, pod in pods(render(values)).items()}
        assert images == {"gateway": services["gateway"]["image"], "triton": services[triton]["image"]}


def test_images_of_a_registry() -> None:
    values = {
        "images": {
            "registry": "registry.example.com/team/",
            "pullSecrets": ["a"],
            "gateway": {"tag": "1@sha256:abc"},
            "triton": {"repository": "own"},
        }
    }
    resources = render(values)
    assert [each["image"] for each in containers(resources)] == [
        "registry.example.com/team/resnest-gateway:1@sha256:abc",
        f"registry.example.com/team/own:{resnest_core.__version__}",
    ]
    assert all(pod["imagePullSecrets"] == [{"name": "a"}] for pod in pods(resources).values())


@pytest.mark.parametrize("values", [{}, {"gateway": KEYS}, on_gpu(CLAIM)], ids=["defaults", "keys", "gpu"])
def test_notes_say_how_to_ask(values: dict[str, Any]) -> None:
    notes = templates(values)[NOTES]
    assert f"port-forward service/{NAME}-gateway 8000:8000" in notes and "/v1/detect" in notes
    assert ("X-API-Key" in notes) is ("gateway" in values) and ("need no key" in notes) is ("gateway" not in values)
