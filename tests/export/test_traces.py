"""The cache of traces: equal networks share one, networks that differ in anything don't."""

from __future__ import annotations

import copy
from pathlib import Path

import onnx
import pytest
import torch

from resnest_export import to_onnx
from resnest_export.deployed_detector import DeployedDetector
from resnest_export.models import ZOO, build
from tests.export import goldens
from tests.export.traces import Traces, digest

CARD = goldens.card("demo")


def network() -> DeployedDetector:
    torch.manual_seed(0)
    return DeployedDetector(build(ZOO["demo"]), CARD)


def test_equal_networks_have_equal_digests_and_others_have_not() -> None:
    first, second = network(), network()
    assert digest(first) == digest(second) == digest(copy.deepcopy(first))
    with torch.no_grad():
        next(iter(second.detector.parameters()))[0] += 1
    fewer = DeployedDetector(build(ZOO["demo"].with_proposals(50)), CARD)
    fewer.load_state_dict(first.state_dict())
    lower = DeployedDetector(first.detector, CARD.model_copy(update={"score_threshold": 0.5}))
    half = copy.deepcopy(first).half()
    assert len({digest(each) for each in (first, second, fewer, lower, half)}) == 5


def test_digests_do_not_depend_on_the_order_in_sets() -> None:
    forth, back = set(map(str, range(100))), set(map(str, reversed(range(100))))
    assert digest(forth) == digest(back) != digest(forth - {"0"})


def test_an_equal_network_is_traced_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traced = []

    def trace(network: DeployedDetector, _: object) -> onnx.ModelProto:
        traced.append(network)
        return onnx.helper.make_model(onnx.helper.make_graph([], "a trace", [], []))

    monkeypatch.setattr(to_onnx, "_trace", trace)
    with Traces(tmp_path).shared():
        for _ in range(2):
            assert to_onnx.trace(network(), CARD).graph.name == "a trace"
    assert len(traced) == 1
