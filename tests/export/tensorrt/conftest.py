"""Fixed-size graphs, traced once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import onnx
import pytest
import torch

from resnest_export.models import ZOO, build
from resnest_export.models.detector import TwoStageDetector
from resnest_export.tensorrt.graph import fixed_size_graph
from tests.export import goldens
from tests.export.traces import Traces
from tests.weights import demo_state_dict, filled

Graphs = Callable[..., Path]


def detector(name: str, max_proposals: int = 1000) -> TwoStageDetector:
    """Build the demo with its trained weights, another detector with the parity kit's."""
    if name != "demo":
        return filled(name)
    model = build(ZOO["demo"].with_proposals(max_proposals))
    model.load_state_dict(demo_state_dict())
    return model


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory, traces: Traces) -> Graphs:
    """Return the path of a detector's fixed-size graph, by its name and type."""
    folder = tmp_path_factory.mktemp("graphs")

    @cache
    def path(name: str, dtype: torch.dtype = torch.float32) -> Path:
        file = folder / f"{name}_{str(dtype).removeprefix('torch.')}.onnx"
        with traces.shared() if name == "demo" else nullcontext():  # the others are traced once anyway, and large
            onnx.save(fixed_size_graph(detector(name), goldens.card(name), dtype), file)
        return file

    return path
