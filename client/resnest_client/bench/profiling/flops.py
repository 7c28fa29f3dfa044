"""Counts the floating-point operations of a network's convolutions and matrix products."""

from __future__ import annotations

from collections import defaultdict
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from resnest_client.bench.profiling.operators import onnxruntime_session, read_onnxruntime_profile
from resnest_client.bench.profiling.stages import Graph
from resnest_core.tensors import Tensors

Shape = list[int]


def count_gflop(graph: Graph, inputs: Tensors, threads: int | None) -> dict[str, float]:
    """Return GFLOP by node's name, a multiplication and an addition being two, from the shapes of an actual run.

    ONNX Runtime runs the graph's nodes as they stand: what runtimes fuse or pad to their layouts isn't in the figures.

    Raises:
        MissingExtraError: ONNX Runtime isn't installed.
        InvalidModelError: it can't read the model.
    """
    with TemporaryDirectory() as folder:
        session = onnxruntime_session(graph.model.SerializeToString(), threads, profile_in=Path(folder), plain=True)
        session.run(None, dict(inputs))
        (operators,) = read_onnxruntime_profile(Path(session.end_profiling()))
    found: dict[str, float] = defaultdict(float)
    for name, _, told in operators:
        if name in graph.nodes and name not in graph.constant:
            shapes = [_shapes(told[f"{side}_type_shape"]) for side in ("input", "output")]
            found[name] += flop(told["op_name"], *shapes) / 1e9
    return {name: gflop for name, gflop in found.items() if gflop}


def flop(operator: str, inputs: list[Shape], outputs: list[Shape]) -> int:
    """Return the floating-point operations of a convolution or matrix product; 0 of any other operator.

    Biases aren't counted. Shapes are ONNX's: a convolution's weights (C_out, C_in ÷ groups, h, w), a transposed one's
    (C_in, C_out ÷ groups, h, w).
    """
    if operator == "Conv":
        return 2 * prod(outputs[0]) * prod(inputs[1][1:])
    if operator == "ConvTranspose":
        return 2 * prod(inputs[0]) * prod(inputs[1][1:])
    if operator == "MatMul":
        return 2 * prod(outputs[0]) * inputs[0][-1]
    if operator == "Gemm":
        rows = outputs[0][0]
        return 2 * prod(outputs[0]) * (prod(inputs[0]) // rows if rows else 0)
    return 0


def _shapes(told: list[dict[str, Any]]) -> list[Shape]:
    """Return the shapes of `[{"float": [1, 64, 80, 80]}, …]`."""
    return [next(iter(each.values())) for each in told]
