"""Exports without the tracer, which takes most of their time: PyTorch runs the network that would have been traced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from resnest_core.card import METADATA_KEY, ModelCard
from resnest_core.runtimes import OnnxRuntime
from resnest_core.runtimes.fake import FakeRuntime
from resnest_core.tensors import Tensors, input_names, output_names
from resnest_export import to_onnx
from resnest_export.deployed_detector import DeployedDetector
from resnest_export.models.detector import TwoStageDetector
from resnest_export.tensorrt import graph

Networks = dict[str, DeployedDetector]


class PyTorchRuntime(FakeRuntime):
    """Runs a network of PyTorch's."""

    def __init__(self, network: DeployedDetector, card: ModelCard) -> None:
        super().__init__(card)
        self.network = network

    def run(self, inputs: Tensors) -> Tensors:
        names = input_names(self.card.has_masks)
        with torch.inference_mode():
            outputs = self.network(*(torch.from_numpy(inputs[name]) for name in names))
        return dict(zip(output_names(self.card.has_masks), (tensor.numpy() for tensor in outputs), strict=True))


def without_tracing(monkeypatch: pytest.MonkeyPatch) -> Networks:
    """Let exported files name a network that PyTorch runs when ONNX Runtime loads the file; return them by name."""
    networks: Networks = {}

    def trace(network: DeployedDetector, _card: ModelCard) -> onnx.ModelProto:
        name = f"network_{len(networks)}"
        networks[name] = network
        x, y = (helper.make_tensor_value_info(value, TensorProto.FLOAT, [1]) for value in "xy")
        opset = helper.make_opsetid("", to_onnx.OPSET)
        identity = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], name, [x], [y])
        return helper.make_model(identity, ir_version=to_onnx.IR_VERSION, opset_imports=[opset])

    def load(path: Path, **_: Any) -> PyTorchRuntime:
        model = onnx.load(path)
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        assert METADATA_KEY in metadata
        return PyTorchRuntime(networks[model.graph.name], ModelCard.from_metadata(metadata, path))

    for module in (to_onnx, graph):
        monkeypatch.setattr(module, "trace", trace)
        monkeypatch.setattr(module, "function_bodies", lambda *_: [])
    monkeypatch.setattr(graph, "take_shapes_after_cast", lambda _: None)
    monkeypatch.setattr(OnnxRuntime, "load", load)
    return networks


def scaled(function: Callable[..., Any], change: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return a function with a mistake: what it returns is changed."""
    return lambda *arguments, **options: change(function(*arguments, **options))


def same(one: TwoStageDetector, other: TwoStageDetector) -> bool:
    """Return whether two detectors are built of the same modules with the same weights."""
    kinds = [[(name, type(module)) for name, module in each.named_modules()] for each in (one, other)]
    weights, others = one.state_dict(), other.state_dict()
    return (
        kinds[0] == kinds[1]
        and weights.keys() == others.keys()
        and all(value.dtype == others[key].dtype and torch.equal(value, others[key]) for key, value in weights.items())
    )
