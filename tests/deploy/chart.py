"""The Helm chart, rendered by Helm itself as a library: no cluster is needed."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped, unused-ignore]
import yaml  # type: ignore[import-untyped, unused-ignore]

from tests.deploy.files import ROOT, read_yaml
from tests.deploy.helm import render_chart

HELM = ROOT / "deploy/helm"
CHART = HELM / "resnest"
DEFAULTS: dict[str, Any] = read_yaml(CHART / "values.yaml")
ON_GPU: dict[str, Any] = read_yaml(CHART / "values-gpu.yaml")
NAME, NAMESPACE = "shop", "vision"
NOTES = "resnest/templates/NOTES.txt"

CLAIM: dict[str, Any] = {"persistentVolumeClaim": {"claimName": "models", "subPath": "model_repository"}}
STORE: dict[str, Any] = {"objectStore": {"url": "s3://bucket/repository", "existingSecret": "models-s3"}}
OWN_STORE: dict[str, Any] = {
    "objectStore": {"url": "s3://bucket/repository", "endpoint": "http://minio:9000", "region": "eu-central-1"}
}
IMAGE: dict[str, Any] = {"image": {"reference": "registry.example.com/team/models:7"}}
KEYS: dict[str, Any] = {"apiKeys": {"existingSecret": "resnest-keys"}}
SCALED: dict[str, Any] = {"autoscaling": {"enabled": True}}
MONITORED: dict[str, Any] = {
    "labels": {"release": "kube-prometheus-stack"},
    "serviceMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True},
    "probe": {"enabled": True, "blackbox": "blackbox.monitoring:9115"},
    "dashboards": {"enabled": True},
}


def on_gpu(source: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return values-gpu.yaml with a model source."""
    return {**ON_GPU, "models": {"source": source}, **more}


VARIANTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "claim": {"models": {"source": CLAIM, "names": ["a", "b"], "default": "b"}},
    "store": {"models": {"source": STORE}, "serviceAccount": {"annotations": {"a/role": "models"}}},
    "own store": {"models": {"source": OWN_STORE}},
    "image": {"models": {"source": IMAGE}},
    "gpu, claim": on_gpu(CLAIM),
    "gpu, store": on_gpu(STORE),
    "gpu, image": on_gpu(IMAGE),
    "public": {
        "images": {"registry": "registry.example.com/team/", "pullSecrets": ["registry"]},
        "gateway": {
            **KEYS,
            "settings": {"RESNEST_MAX_BODY_BYTES": 2**25, "RESNEST_RATE_LIMIT": "100/minute"},
            "trustedProxies": "10.0.0.0/8",
            "service": {"type": "LoadBalancer", "annotations": {"a/b": "c"}},
        },
        "ingress": {"enabled": True, "className": "nginx", "host": "detect.example.com", "tlsSecret": "tls"},
        "networkPolicy": {"gatewayFrom": [{"namespaceSelector": {"matchLabels": {"team": "a"}}}]},
    },
    "no policy": {"gateway": KEYS, "networkPolicy": {"enabled": False}},
    "scaled": {"triton": SCALED, "gateway": SCALED},
    "scaled by CPU time": {"triton": {"autoscaling": {"enabled": True, "metric": "cpu"}}},
    "monitored": {"monitoring": MONITORED},
    "traced": {
        "gateway": {"settings": {"RESNEST_OTLP_ENDPOINT": "http://collector:4318"}},
        "networkPolicy": {"gatewayEgress": [{"ports": [{"port": 4318}]}]},
    },
    "scheduled": {
        part: {
            "podAnnotations": {"a/b": "c"},
            "nodeSelector": {"disk": "fast"},
            "tolerations": [{"key": "a", "operator": "Exists"}],
            "priorityClassName": "high",
        }
        for part in ("triton", "gateway")
    },
}
"""Values that the tests render: each flavour, source of models and option."""


def templates(values: Mapping[str, Any], name: str = NAME) -> dict[str, str]:
    """Return what each template is rendered to, for a release of this name.

    Raises:
        HelmError: the chart refuses the values.
    """
    return render_chart(CHART, values, name, NAMESPACE)


def render(values: Mapping[str, Any], name: str = NAME) -> list[dict[str, Any]]:
    """Return the resources that Helm would install."""
    rendered = templates(values, name)
    del rendered[NOTES]
    return [each for text in rendered.values() for each in yaml.safe_load_all(text) if each]


def validate(resource: dict[str, Any], version: str) -> None:
    """Check a resource against a Kubernetes version's schema, which refuses unknown fields.

    Raises:
        kubernetes_validate.ValidationError: it has a wrong or unknown field.
        kubernetes_validate.SchemaNotFoundError: Kubernetes itself has no such resource.
    """
    _validate(json.dumps(resource), version)


@functools.cache  # most resources are the same in several variants
def _validate(resource: str, version: str) -> None:
    kubernetes_validate.validate(json.loads(resource), version, strict=True)


def of_kind(resources: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    """Return the resources of a kind by component."""
    return {
        each["metadata"]["labels"]["app.kubernetes.io/component"]: each for each in resources if each["kind"] == kind
    }


def pods(resources: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the pods' specifications by component."""
    return {name: each["spec"]["template"]["spec"] for name, each in of_kind(resources, "Deployment").items()}


def containers(resources: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield every container, init containers too."""
    for pod in pods(resources).values():
        yield from pod.get("initContainers", ())
        yield from pod["containers"]


def environment(container: dict[str, Any]) -> dict[str, str]:
    """Return the variables that have a value."""
    return {each["name"]: each["value"] for each in container.get("env", ()) if "value" in each}
