"""The Helm chart's values: what contradicts itself or isn't known is refused, and the message names the path."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema  # type: ignore[import-untyped, unused-ignore]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnest_server import Settings
from tests.deploy.chart import (
    CHART,
    CLAIM,
    DEFAULTS,
    IMAGE,
    KEYS,
    ON_GPU,
    STORE,
    environment,
    on_gpu,
    pods,
    render,
)
from tests.deploy.helm import HelmError

SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
KEYS_MISSING = "at '/gateway/apiKeys/existingSecret': minLength"
CONTRADICTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "two sources": ({"models": {"source": {**CLAIM, **STORE}}}, "at '/models/source': maxProperties: got 2, want 1"),
    "three sources": ({"models": {"source": {**CLAIM, **STORE, **IMAGE}}}, "at '/models/source': maxProperties: got 3"),
    "a GPU without models": (ON_GPU, "at '/models/source': minProperties: got 0, want 1"),
    "a source without its name": (
        {"models": {"source": {"persistentVolumeClaim": {"subPath": "a"}}}},
        "at '/models/source/persistentVolumeClaim': missing property 'claimName'",
    ),
    "a store that isn't S3": (
        {"models": {"source": {"objectStore": {"url": "gs://a"}}}},
        "/models/source/objectStore/url",
    ),
    "a store's key in values": (
        {"models": {"source": {"objectStore": {"url": "s3://a", "secretKey": "b"}}}},
        "at '/models/source/objectStore': additional properties 'secretKey' not allowed",
    ),
    "a default that isn't served": ({"models": {"names": ["a"], "default": "b"}}, "at '/models/default': b is none of"),
    "an Ingress without keys": ({"ingress": {"enabled": True, "host": "a"}}, KEYS_MISSING),
    "an Ingress without host": ({"gateway": KEYS, "ingress": {"enabled": True}}, "at '/ingress/host': minLength"),
    "a load balancer without keys": ({"gateway": {"service": {"type": "LoadBalancer"}}}, KEYS_MISSING),
    "a node's port without keys": ({"gateway": {"service": {"type": "NodePort"}}}, KEYS_MISSING),
    "no policy and no keys": ({"networkPolicy": {"enabled": False}}, KEYS_MISSING),
    "clients elsewhere and no keys": ({"networkPolicy": {"gatewayFrom": [{"podSelector": {}}]}}, KEYS_MISSING),
    "keys in values": (
        {"gateway": {"settings": {"RESNEST_API_KEYS": "a"}}},
        "at '/gateway/settings': additional properties 'RESNEST_API_KEYS' not allowed",
    ),
    "a setting of the chart": (
        {"gateway": {"settings": {"RESNEST_TRITON_URL": "a"}}},
        "at '/gateway/settings': additional properties 'RESNEST_TRITON_URL' not allowed",
    ),
    "traces that the policy blocks": (
        {"gateway": {"settings": {"RESNEST_OTLP_ENDPOINT": "http://a:4318"}}},
        "at '/networkPolicy/gatewayEgress': minItems",
    ),
    "a GPU scaled by CPU time": (
        on_gpu(CLAIM, triton={"autoscaling": {"enabled": True, "metric": "cpu"}}),
        "at '/triton/autoscaling/metric'",
    ),
    "GPUs as a resource": (
        {"triton": {"resources": {"limits": {"nvidia.com/gpu": 1}}}},
        "at '/triton/resources/limits': additional properties 'nvidia.com/gpu' not allowed",
    ),
    "a probe without exporter": (
        {"monitoring": {"probe": {"enabled": True}}},
        "at '/monitoring/probe/blackbox': minLength",
    ),
    "more pods at least than at most": (
        {"gateway": {"autoscaling": {"minReplicas": 9, "maxReplicas": 3}}},
        "at '/gateway/autoscaling/minReplicas': 9 is more than maxReplicas, 3",
    ),
    "Triton drains too short": (
        {"triton": {"drainSeconds": 59}},
        "at '/triton/drainSeconds': 59 is less than RESNEST_REQUEST_SECONDS, 60",
    ),
    "requests longer than a drain": (
        {"triton": {"drainSeconds": 200}, "gateway": {"settings": {"RESNEST_REQUEST_SECONDS": 90.5}}},
        "at '/gateway/drainSeconds': 60 is less than RESNEST_REQUEST_SECONDS, 90.5",
    ),
    "a flavour": ({"flavour": "tpu"}, "at '/flavour'"),
    "no number": ({"gateway": {"replicas": "two"}}, "at '/gateway/replicas'"),
}
FREE = {"podAnnotations", "nodeSelector", "annotations", "labels", "settings", "source", "global", "matchLabels"}
SET_BY_THE_CHART = {
    "api_keys_file",
    "default_model",
    "insecure",
    "models",
    "runtime",
    "shutdown_seconds",
    "triton_url",
    "triton_wait_seconds",
}
OF_THE_IMAGE_OR_SECRET = {"api_keys", "host", "port"}
OF_NETWORKS_IN_THE_GATEWAY = {
    "device",
    "fallback",
    "instances",
    "max_batch",
    "max_wait_ms",
    "optimize",
    "repository",
    "threads",
}


def parts(values: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the paths of the values' objects, except those whose names are the user's."""
    yield path
    for name, value in values.items():
        if isinstance(value, dict) and name not in FREE:
            yield from parts(value, (*path, name))


@pytest.mark.parametrize(("values", "message"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_contradictions_are_refused_with_the_path(values: dict[str, Any], message: str) -> None:
    with pytest.raises(HelmError) as error:
        render(values)
    assert message in str(error.value)


@pytest.mark.parametrize("path", list(parts(DEFAULTS)), ids=".".join)
def test_unknown_values_are_refused_with_the_path(path: tuple[str, ...]) -> None:
    values: dict[str, Any] = {"unknown": 1}
    for name in reversed(path):
        values = {name: values}
    with pytest.raises(HelmError) as error:
        render(values)
    assert f"at '{''.join(f'/{name}' for name in path)}': additional properties 'unknown' not allowed" in str(
        error.value
    )


def test_the_schema_is_one_and_admits_the_defaults() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.Draft7Validator(SCHEMA).validate(DEFAULTS)


@pytest.mark.parametrize("path", list(parts(DEFAULTS)), ids=".".join)
def test_values_yaml_documents_every_value(path: tuple[str, ...]) -> None:
    schema, values = SCHEMA, DEFAULTS
    for name in path:
        schema, values = schema["properties"][name], values[name]
        if "$ref" in schema:
            schema = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]]
    optional = {"global"} if not path else {"ephemeral-storage"} if path[-1] in {"requests", "limits"} else set()
    assert schema["properties"].keys() - optional == values.keys()


def test_comments_name_every_field_of_a_source() -> None:
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    for name, schema in SCHEMA["properties"]["models"]["properties"]["source"]["properties"].items():
        assert f"#   {name}: {{" in text
        assert all(field in text for field in schema["properties"])


def test_every_setting_is_the_users_or_has_a_reason() -> None:
    allowed = SCHEMA["properties"]["gateway"]["properties"]["settings"]["properties"]
    free = {name.removeprefix("RESNEST_").lower() for name in allowed}
    others = SET_BY_THE_CHART | OF_THE_IMAGE_OR_SECRET | OF_NETWORKS_IN_THE_GATEWAY
    assert free | others == Settings.model_fields.keys()
    assert not free & others


@settings(max_examples=20)
@given(number=st.integers(16, 2**53))
def test_numbers_reach_the_environment_as_they_are(number: int) -> None:
    values = {"gateway": {"settings": {"RESNEST_MAX_BYTES_IN_FLIGHT": number, "RESNEST_REQUEST_SECONDS": 1.5}}}
    given = environment(pods(render(values))["gateway"]["containers"][0])
    assert given["RESNEST_MAX_BYTES_IN_FLIGHT"] == str(number) and given["RESNEST_REQUEST_SECONDS"] == "1.5"
