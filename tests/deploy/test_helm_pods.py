"""The chart's pods: hardening, settings, probes, and the order in which they start and end."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from resnest_core.detector import InProcessDetector
from resnest_core.runtimes import FakeRuntime
from resnest_server import Settings, access, create_app
from resnest_server.access import require_keys_in_public
from resnest_server.engines import LocalEngine
from tests.deploy.chart import (
    CLAIM,
    DEFAULTS,
    KEYS,
    NAME,
    ON_GPU,
    VARIANTS,
    containers,
    environment,
    of_kind,
    on_gpu,
    pods,
    render,
)
from tests.deploy.files import COMPOSE, GATEWAY, TRITON, TRITON_GPU, instructions, read_yaml

COMPONENTS = ("triton", "gateway")
SECURE = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
each_variant = pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
each_component = pytest.mark.parametrize("component", COMPONENTS)


@each_variant
def test_pods_are_hardened_as_in_compose(values: dict[str, Any]) -> None:
    resources = render(values)
    for pod in pods(resources).values():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False and pod["enableServiceLinks"] is False
        assert pod["serviceAccountName"] == NAME
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert not [volume for volume in pod.get("volumes", ()) if "hostPath" in volume]
    for container in containers(resources):
        assert container["securityContext"] == SECURE
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]
    [account] = [each for each in resources if each["kind"] == "ServiceAccount"]
    assert account["automountServiceAccountToken"] is False


@pytest.mark.parametrize(
    ("values", "component", "dockerfile"),
    [({}, "gateway", GATEWAY), ({}, "triton", TRITON), (on_gpu(CLAIM), "triton", TRITON_GPU)],
    ids=["gateway", "cpu", "gpu"],
)
def test_the_user_and_the_ports_are_the_images(values: dict[str, Any], component: str, dockerfile: Path) -> None:
    lines = instructions(dockerfile)
    pod = pods(render(values))[component]
    user, group = [line.split()[1] for line in lines if line.startswith("USER ")][-1].split(":")
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]) == (int(user), int(group))
    exposed = {int(port) for line in lines if line.startswith("EXPOSE ") for port in line.split()[1:]}
    assert {each["containerPort"] for each in pod["containers"][0]["ports"]} == (exposed or {8000, 8001, 8002})


@pytest.mark.parametrize(("values", "dockerfile"), [({}, TRITON), (on_gpu(CLAIM), TRITON_GPU)], ids=["cpu", "gpu"])
def test_triton_gets_the_images_options_except_where_a_cluster_needs_others(
    values: dict[str, Any], dockerfile: Path
) -> None:
    usual = [json.loads(line.partition(" ")[2]) for line in instructions(dockerfile) if line.startswith("CMD [")][-1]
    given = pods(render(values))["triton"]["containers"][0]["args"]
    assert "command" not in pods(render(values))["triton"]["containers"][0]  # else supervise.py wouldn't run
    own = dict(option.split("=", 1) for option in given if option not in usual)
    assert own.pop("--grpc-max-connection-age", "10000") == "10000"
    assert own == {"--strict-readiness": "true", "--exit-timeout-secs": "60"}
    names = [option.partition("=")[0] for option in given]
    assert {option.partition("=")[0] for option in usual} <= set(names) and len(names) == len(set(names))


def test_a_gpu_is_a_limit_and_cpus_are_none() -> None:
    pod = pods(render(on_gpu(CLAIM)))["triton"]
    [container] = pod["containers"]
    assert container["resources"]["limits"] == {"memory": "16Gi", "nvidia.com/gpu": "1"}
    assert "nvidia.com/gpu" not in container["resources"]["requests"]
    assert pod["tolerations"] == ON_GPU["triton"]["tolerations"]
    compose = read_yaml(COMPOSE)["services"]["triton-gpu"]["environment"]
    assert environment(container) == compose
    assert compose["CUDA_CACHE_PATH"] in [mount["mountPath"] for mount in container["volumeMounts"]]
    cpu = pods(render({"triton": {"gpus": 2}}))["triton"]["containers"][0]["resources"]["limits"]
    assert cpu == {"cpu": "2", "memory": "8Gi"}


@each_component
@pytest.mark.parametrize("pre_stop", [10, 25])
def test_a_pod_has_time_to_drain(component: str, pre_stop: int) -> None:
    values = {component: {"preStopSeconds": pre_stop, "drainSeconds": 90}}
    pod = pods(render(values))[component]
    [container] = pod["containers"]
    assert container["lifecycle"]["preStop"] == {"sleep": {"seconds": pre_stop}}
    assert pod["terminationGracePeriodSeconds"] > pre_stop + 90
    if component == "gateway":
        assert Settings(**settings_of(container)).shutdown_seconds == 90
    else:
        assert "--exit-timeout-secs=90" in container["args"]


def test_gateways_have_left_a_pod_of_triton_before_it_stops() -> None:
    """gRPC varies the age of connections by a tenth."""
    dns_seconds = 5
    assert DEFAULTS["triton"]["preStopSeconds"] > dns_seconds + 1.1 * DEFAULTS["triton"]["connectionSeconds"]


def test_the_drain_is_as_long_as_a_request_by_default() -> None:
    seconds = Settings.model_fields["request_seconds"].default
    assert DEFAULTS["gateway"]["drainSeconds"] >= seconds and DEFAULTS["triton"]["drainSeconds"] >= seconds


@each_component
def test_an_update_replaces_pods_one_by_one(component: str) -> None:
    spec = of_kind(render({}), "Deployment")[component]["spec"]
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    assert spec["progressDeadlineSeconds"] > DEFAULTS["triton"]["startupSeconds"]
    budget = of_kind(render({}), "PodDisruptionBudget")[component]["spec"]
    assert budget["selector"] == spec["selector"] and budget["maxUnavailable"] == 1


@each_variant
def test_selectors_match_the_pods(values: dict[str, Any]) -> None:
    resources = render(values)
    deployments = of_kind(resources, "Deployment")
    for component, deployment in deployments.items():
        labels = deployment["spec"]["template"]["metadata"]["labels"].items()
        selector = deployment["spec"]["selector"]["matchLabels"].items()
        assert selector <= labels
        others = [each for name, each in deployments.items() if name != component]
        assert not any(selector <= each["spec"]["template"]["metadata"]["labels"].items() for each in others)
        assert of_kind(resources, "Service")[component]["spec"]["selector"].items() == selector
        for constraint in deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]:
            assert constraint["labelSelector"]["matchLabels"].items() == selector
        for kind in ("NetworkPolicy", "ServiceMonitor"):
            if found := of_kind(resources, kind):
                spec = found[component]["spec"]
                assert spec.get("podSelector", spec.get("selector"))["matchLabels"].items() == selector


def settings_of(container: dict[str, Any]) -> dict[str, Any]:
    """Return the gateway's settings in a container's environment, by the names of `Settings`."""
    prefix = "RESNEST_"
    return {
        name.removeprefix(prefix).lower(): value
        for name, value in environment(container).items()
        if name.startswith(prefix)
    }


@each_variant
def test_the_gateways_variables_are_settings_that_hold(values: dict[str, Any]) -> None:
    [container] = pods(render(values))["gateway"]["containers"]
    given = settings_of(container)
    assert given.keys() <= Settings.model_fields.keys()
    settings = Settings(**given)
    assert settings.runtime == "triton" and settings.triton_url == f"dns:///{NAME}-triton:8001"
    assert settings.max_body_bytes == 2**25  # by the chart as 33554432, not as 3.3554432e+07
    assert settings.insecure is not bool(settings.api_keys_file)
    names = values.get("models", {}).get("names", [])
    assert settings.models == tuple(names) and settings.default_model == (names[-1] if names else None)


def test_the_gateway_starts_on_every_address_with_keys_and_without() -> None:
    for values in ({}, {"gateway": KEYS}):
        [container] = pods(render(values))["gateway"]["containers"]
        settings = Settings(**settings_of(container), host="0.0.0.0")
        require_keys_in_public(settings)


def test_keys_are_mounted_from_a_secret_that_exists() -> None:
    pod = pods(render({"gateway": {"apiKeys": {"existingSecret": "own", "key": "clients"}}}))["gateway"]
    [container], [volume] = pod["containers"], pod["volumes"]
    assert volume["secret"] == {"secretName": "own", "items": [{"key": "clients", "path": "keys"}]}
    [mount] = container["volumeMounts"]
    assert mount == {"name": volume["name"], "mountPath": "/etc/resnest", "readOnly": True}  # subPath isn't updated
    assert environment(container)["RESNEST_API_KEYS_FILE"] == "/etc/resnest/keys"


@each_variant
def test_secrets_are_named_and_not_contained(values: dict[str, Any]) -> None:
    for container in containers(render(values)):
        for variable in container.get("env", ()):
            if re.search("KEY|SECRET|TOKEN|PASSWORD", variable["name"]):
                assert variable.keys() == {"name", "valueFrom"} or variable["name"] == "RESNEST_API_KEYS_FILE"


def test_probes_ask_routes_that_the_gateway_has() -> None:
    [container] = pods(render({}))["gateway"]["containers"]
    settings = Settings()
    with TestClient(create_app(settings, [LocalEngine(InProcessDetector(FakeRuntime()), settings)])) as client:
        for kind, path in (("startup", "live"), ("liveness", "live"), ("readiness", "ready")):
            probe = container[f"{kind}Probe"]
            assert probe["httpGet"] == {"path": f"/health/{path}", "port": "http"}
            assert client.get(probe["httpGet"]["path"]).status_code == 200


@pytest.mark.parametrize("seconds", [10, 600, 1201])
def test_the_gateway_waits_as_long_as_triton_may_start(seconds: int) -> None:
    found = pods(render({"triton": {"startupSeconds": seconds}}))
    allowed = {
        name: probe["periodSeconds"] * probe["failureThreshold"]
        for name, pod in found.items()
        for probe in [pod["containers"][0]["startupProbe"]]
    }
    wait = Settings(**settings_of(found["gateway"]["containers"][0])).triton_wait_seconds
    assert allowed["triton"] >= seconds and wait >= seconds and allowed["gateway"] > wait


def test_shared_memory_and_temporary_files_are_those_of_compose() -> None:
    compose = read_yaml(COMPOSE)["services"]["triton"]
    volumes = {each["name"]: each.get("emptyDir") for each in pods(render({}))["triton"]["volumes"]}
    assert volumes["shm"] == {"medium": "Memory", "sizeLimit": "512Mi"} and "512m" in compose["shm_size"]
    assert volumes["tmp"] == {"medium": "Memory", "sizeLimit": "64Mi"} and "size=64m" in compose["tmpfs"][0]


def test_keys_are_read_again_when_kubernetes_updates_the_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mounted Secret's files are links through `..data`, which is replaced as a whole."""
    monkeypatch.setattr(access, "CHECK_SECONDS", 0.0)
    for version in ("1", "2"):
        (tmp_path / f"..{version}").mkdir()
        (tmp_path / f"..{version}" / "keys").write_text(f"key-{version}\n")
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "keys").symlink_to("..data/keys")
    keys = access.Keys(Settings(api_keys_file=tmp_path / "keys"))
    assert keys.admit("key-1") and not keys.admit("key-2")
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    assert keys.admit("key-2") and not keys.admit("key-1")
