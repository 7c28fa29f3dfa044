"""The chart's Services, NetworkPolicies and Ingress: who reaches what."""

from __future__ import annotations

from typing import Any

import pytest

from tests.deploy.chart import (
    KEYS,
    NAME,
    VARIANTS,
    of_kind,
    pods,
    render,
)

PROMETHEUS_PODS = [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}}}]
each_variant = pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)


def by_port(rules: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    """Return a NetworkPolicy's rules by port."""
    found: dict[int, list[dict[str, Any]]] = {}
    for rule in rules:
        for port in rule["ports"]:
            found.setdefault(port["port"], []).append(rule)
    return found


def test_only_gateways_reach_triton() -> None:
    resources = render({})
    policies, services = of_kind(resources, "NetworkPolicy"), of_kind(resources, "Service")
    inside = by_port(policies["triton"]["spec"]["ingress"])
    assert inside.keys() == {8001, 8002}
    [of_gateways] = inside[8001]
    assert of_gateways["from"] == [{"podSelector": selector_of(services["gateway"])}]
    [metrics] = inside[8002]
    assert metrics["from"] == PROMETHEUS_PODS
    assert policies["triton"]["spec"]["egress"] == []
    outside = by_port(policies["gateway"]["spec"]["egress"])
    assert outside.keys() == {53, 8001}
    assert outside[8001][0]["to"] == [{"podSelector": selector_of(services["triton"])}]
    assert all(policy["spec"]["policyTypes"] == ["Ingress", "Egress"] for policy in policies.values())


def selector_of(service: dict[str, Any]) -> dict[str, Any]:
    return {"matchLabels": service["spec"]["selector"]}


@each_variant
def test_policies_admit_the_ports_that_services_have(values: dict[str, Any]) -> None:
    resources = render(values)
    ports = {
        name: {each["name"]: each["containerPort"] for each in pod["containers"][0]["ports"]}
        for name, pod in pods(resources).items()
    }
    for component, policy in of_kind(resources, "NetworkPolicy").items():
        service = of_kind(resources, "Service")[component]["spec"]
        served = {ports[component][each["targetPort"]] for each in service["ports"]}
        assert by_port(policy["spec"]["ingress"]).keys() == served


@pytest.mark.parametrize(
    ("values", "admitted"),
    [
        ({}, [{"podSelector": {}}]),
        ({"gateway": KEYS}, None),
        ({"gateway": KEYS, "networkPolicy": {"gatewayFrom": [{"podSelector": {}}]}}, [{"podSelector": {}}]),
    ],
    ids=["no keys", "keys", "named"],
)
def test_who_reaches_the_gateway(values: dict[str, Any], admitted: Any) -> None:
    clients, prometheus = by_port(of_kind(render(values), "NetworkPolicy")["gateway"]["spec"]["ingress"])[8000]
    assert clients.get("from") == admitted and prometheus["from"] == PROMETHEUS_PODS


def test_an_ingress_publishes_detection_only() -> None:
    values = {"gateway": KEYS, "ingress": {"enabled": True, "host": "a.example.com", "tlsSecret": "tls"}}
    ingress = of_kind(render(values), "Ingress")["gateway"]["spec"]
    [rule] = ingress["rules"]
    assert [path["path"] for path in rule["http"]["paths"]] == ["/v1"]
    assert ingress["tls"] == [{"hosts": ["a.example.com"], "secretName": "tls"}]
    service = rule["http"]["paths"][0]["backend"]["service"]
    assert service == {"name": f"{NAME}-gateway", "port": {"name": "http"}}
