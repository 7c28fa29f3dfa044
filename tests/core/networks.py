"""ONNX files for tests: the demo model, and single-operator networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from resnest_core.card import METADATA_KEY, ModelCard

Array = NDArray[np.float32]

REPOSITORY = Path(__file__).parents[2] / "model_repository"
DEMO = REPOSITORY / "demo_network" / "1" / "model.onnx"


def write_network(path: Path, card: ModelCard | None = None, operator: str = "Identity", domain: str = "") -> Path:
    """Write a network of one operator, with the card if one is given."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"], domain=domain)], "network", [x], [y])
    opsets = [helper.make_opsetid("", 18)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    model = helper.make_model(graph, ir_version=10, opset_imports=opsets)
    if card:
        helper.set_model_props(model, {METADATA_KEY: card.model_dump_json()})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def write_mirrored_demo(path: Path) -> Path:
    """Write the demo with its classes in reverse order: where the demo answers label i, this answers 79 − i."""

    def reverse(name: str, array: Array) -> Array:
        if name.endswith(("fc_cls.weight", "fc_cls.bias")):
            return np.concatenate([array[-2::-1], array[-1:]])  # the last is the background
        if name.endswith(("fc_reg.weight", "fc_reg.bias")):
            return array.reshape(-1, 4, *array.shape[1:])[::-1].reshape(array.shape)
        return array

    return _write_changed_demo(path, reverse)


def write_demo_of_nan(path: Path) -> Path:
    """Write the demo with NaN in the place of every weight of its heads."""
    return _write_changed_demo(path, lambda name, array: array * np.nan if ".bbox_head." in name else array)


def write_demo_of_equal_scores(path: Path) -> Path:
    """Write the demo with a score of exactly 1 for every anchor: their order decides which are proposals."""
    return _write_changed_demo(path, lambda name, array: array + 40 if name.endswith("rpn_cls.bias") else array)


def _write_changed_demo(path: Path, change: Callable[[str, Array], Array]) -> Path:
    model = onnx.load(DEMO)
    changed = 0
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        new = change(tensor.name, array)
        if new is not array:
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(new, array.dtype), tensor.name))
            changed += 1
    assert changed
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path
