"""A gateway's metrics in Prometheus' text format."""

from __future__ import annotations

import sys

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from resnest_client.bench.server_metrics import parse_gateway_metrics
from resnest_core.errors import MissingExtraError

NAMES = ["fruit.v2-b", 'a "quoted" one', "back\\slash", "two\nlines", 'x",stage="network', "a,b} 1 {", "Äpfel"]


def metrics(*models: str) -> str:
    registry = CollectorRegistry()
    seconds = Histogram("resnest_stage_seconds", "Stages.", ["model", "stage"], registry=registry)
    for number, model in enumerate(models, 1):
        seconds.labels(model, "network").observe(number)
        seconds.labels(model, "network").observe(number)
    return generate_latest(registry).decode()


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_read_and_no_other_models_figures(name: str) -> None:
    found = parse_gateway_metrics(metrics(*NAMES), name)
    assert found is not None
    assert found.stages == {"network": (2.0 * (NAMES.index(name) + 1), 2.0)}


def test_the_process() -> None:
    found = parse_gateway_metrics("process_cpu_seconds_total 12.5\nprocess_resident_memory_bytes 1.5e+08\n", "a")
    assert found is not None
    assert (found.stages, found.cpu_seconds, found.memory_bytes) == ({}, 12.5, 1.5e8)
    nothing = parse_gateway_metrics("", "a")
    assert nothing is not None and nothing.cpu_seconds is None and nothing.memory_bytes is None


@pytest.mark.parametrize("text", ["<html><body>Not found</body></html>", 'resnest_stage_seconds_sum{model="a"} 1 2 x'])
def test_a_text_of_something_else_is_no_metrics(text: str) -> None:
    assert parse_gateway_metrics(text, "a") is None


def test_without_the_parser_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client.parser", None)
    with pytest.raises(MissingExtraError, match=r"prometheus-client.*bench"):
        parse_gateway_metrics("", "a")
