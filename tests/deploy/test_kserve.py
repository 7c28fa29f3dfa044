"""The KServe example: KServe's own types, and the settings of the chart."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.chart import pods, render
from tests.deploy.files import ROOT, read_yaml
from tests.deploy.kserve_types import KserveTypeError, check

KSERVE = ROOT / "deploy/kserve"
RUNTIME: dict[str, Any] = read_yaml(KSERVE / "serving-runtime.yaml")
SERVICE: dict[str, Any] = read_yaml(KSERVE / "inference-service.yaml")
RESOURCES = pytest.mark.parametrize("resource", [RUNTIME, SERVICE], ids=lambda resource: resource["kind"])
PATHS = ("", "spec", "spec.predictor", "spec.predictor.model", "spec.predictor.model.modelFormat")


def at(resource: dict[str, Any], path: str) -> Any:
    for name in filter(None, path.split(".")):
        resource = resource[int(name)] if name.isdecimal() else resource[name]  # type: ignore[index]
    return resource


@RESOURCES
def test_kserves_types_take_it(resource: dict[str, Any]) -> None:
    check(resource)


@pytest.mark.parametrize(
    ("resource", "path"),
    [
        *((SERVICE, path) for path in (*PATHS, "metadata", "spec.predictor.deploymentStrategy.rollingUpdate")),
        *((RUNTIME, path) for path in ("spec", "spec.supportedModelFormats.0", "spec.containers.0", "spec.volumes.0")),
        *((RUNTIME, f"spec.containers.0.{path}") for path in ("readinessProbe", "lifecycle.preStop", "ports.0")),
    ],
    ids=lambda value: value if isinstance(value, str) else value["kind"],
)
def test_an_unknown_field_is_found(resource: dict[str, Any], path: str) -> None:
    changed = copy.deepcopy(resource)
    at(changed, path)["unknown"] = 1
    with pytest.raises(KserveTypeError, match="unknown"):
        check(changed)


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("spec.predictor", lambda predictor: predictor.update(minReplicas="two")),
        ("spec.predictor", lambda predictor: predictor.update(maxReplicas=True)),
        ("spec.predictor.model", lambda model: model.pop("modelFormat")),
        ("spec", lambda spec: spec.pop("predictor")),
        ("", lambda resource: resource.update(apiVersion="serving.example.com/v1beta1")),
    ],
    ids=["text", "a truth value", "no format", "no predictor", "another group"],
)
def test_a_wrong_field_is_found(path: str, change: Callable[[Any], Any]) -> None:
    changed = copy.deepcopy(SERVICE)
    change(at(changed, path))
    with pytest.raises(KserveTypeError):
        check(changed)


def test_the_service_asks_for_the_runtime() -> None:
    model = SERVICE["spec"]["predictor"]["model"]
    [supported] = RUNTIME["spec"]["supportedModelFormats"]
    assert model["runtime"] == RUNTIME["metadata"]["name"]
    assert model["modelFormat"].items() <= supported.items()
    assert model["protocolVersion"] in RUNTIME["spec"]["protocolVersions"]


def test_the_container_is_the_charts() -> None:
    pod = pods(render({}))["triton"]
    [chart], [own] = pod["containers"], RUNTIME["spec"]["containers"]
    assert own["args"] == [each.replace("=/models", "=/mnt/models") for each in chart["args"]]
    for name in ("image", "lifecycle", "resources", "terminationMessagePolicy", "volumeMounts"):
        assert own[name] == chart[name], name
    assert own["securityContext"] == {**pod["securityContext"], **chart["securityContext"]}
    for kind in ("startup", "liveness", "readiness"):
        mine, charts = own[f"{kind}Probe"], chart[f"{kind}Probe"]
        for name in ("periodSeconds", "timeoutSeconds", "failureThreshold"):
            assert mine[name] == charts[name]
    assert RUNTIME["spec"]["volumes"] == pod["volumes"]
    predictor = SERVICE["spec"]["predictor"]
    for name in ("automountServiceAccountToken", "enableServiceLinks", "terminationGracePeriodSeconds"):
        assert predictor[name] == pod[name]
    ports = {each["name"]: each["containerPort"] for each in chart["ports"]}
    assert [each["containerPort"] for each in own["ports"]] == [ports["grpc"]]
    assert {own[f"{kind}Probe"]["httpGet"]["port"] for kind in ("startup", "liveness")} == {ports["http"]}
    assert RUNTIME["spec"]["annotations"]["prometheus.kserve.io/port"] == str(ports["metrics"])


@pytest.mark.parametrize(
    ("has_models", "healthy", "ready"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_a_repository_without_models_is_not_ready(tmp_path: Path, has_models: bool, healthy: bool, ready: bool) -> None:
    """The probe's command, with a substitute for the script that asks Triton."""
    if has_models:
        (tmp_path / "demo").mkdir()
        shutil.copy(ROOT / "model_repository/demo/config.pbtxt", tmp_path / "demo")
    (tmp_path / "supervise.py").write_text(f"import sys; sys.exit({int(not healthy)})")
    [container] = RUNTIME["spec"]["containers"]
    command = [
        part.replace("/mnt/models", str(tmp_path)).replace("/opt/supervise.py", str(tmp_path / "supervise.py"))
        for part in container["readinessProbe"]["exec"]["command"]
    ]
    done = subprocess.run(command, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is ready
    assert ("has no model for Triton" in done.stderr) is not has_models
