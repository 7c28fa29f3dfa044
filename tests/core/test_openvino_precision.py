"""What OpenVINO computes in which precision, by the network as it was compiled."""

from __future__ import annotations

from typing import Any

import pytest

from resnest_core.card import read_card
from resnest_core.runtimes.openvino_files import convert
from resnest_core.runtimes.openvino_runtime import ROI_ALIGN, compile_options, keep_regions_in_fp32
from tests.core.networks import DEMO

openvino = pytest.importorskip("openvino")
CAPABILITIES = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def precision_of(node: Any) -> str:
    return str(node.get_rt_info()["runtimePrecision"].astype(str))


def kind_of(node: Any) -> str:
    return str(node.get_rt_info()["layerType"].astype(str))


@pytest.mark.skipif("BF16" not in CAPABILITIES, reason="the CPU has no bf16")
def test_regions_are_computed_in_fp32_beside_layers_in_bf16() -> None:
    core, model = openvino.Core(), convert(DEMO)
    outputs = len(model.outputs)
    keep_regions_in_fp32(model)
    card = read_card(DEMO).model_copy(update={"precision": "bf16"})
    compiled = core.compile_model(model, "CPU", compile_options(core, card, 1))
    nodes = compiled.get_runtime_model().get_ordered_ops()
    pooling = [node for node in nodes if kind_of(node) == ROI_ALIGN]
    assert len(pooling) == 8  # four levels for boxes, four for masks
    assert len(model.outputs) > outputs
    convolutions = [node for node in nodes if kind_of(node) == "Convolution"]
    assert convolutions and {precision_of(node) for node in convolutions} == {"bf16"}
    for node in pooling:
        coordinates = node.input_value(1).get_node()
        while kind_of(coordinates) in ("Reshape", "Reorder"):
            coordinates = coordinates.input_value(0).get_node()
        assert precision_of(coordinates) == "f32", coordinates.get_friendly_name()
