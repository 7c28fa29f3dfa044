"""ONNX files for tests: the demo model, and networks of one step."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from resnest_core.card import METADATA_KEY, ModelCard

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
