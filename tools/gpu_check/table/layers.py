"""The work of each layer of a network, and the least time that a GPU needs for it (the roofline model).

Williams, Waterman & Patterson 2009, doi:10.1145/1498765.1498785: a layer takes at least as long as its operations at
the peak rate, and as moving its tensors at the memory's rate.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import onnx

from resnest_client.bench.profiling.flops import flop
from resnest_client.bench.profiling.operators import onnxruntime_session, read_onnxruntime_profile
from resnest_client.bench.profiling.stages import read_graph
from resnest_core.tensors import Tensors
from tools.gpu_check.table.peaks import Peak

BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1, "fp8": 1}


class Layer(NamedTuple):
    """A convolution or matrix product."""

    name: str
    flop: int
    """Of an image."""
    activations: int
    """Elements that it reads and writes for an image, without weights."""
    weights: int
    """Elements of its weights, read once for a batch."""


def layers_of(model: onnx.ModelProto, inputs: Tensors) -> list[Layer]:
    """Return the layers of a network with the shapes of a run of one image in ONNX Runtime.

    Everything else (RoIAlign, NMS, elementwise operations, which engines fuse) isn't counted: the least time is a
    little less than possible.
    """
    graph = read_graph(model)
    with TemporaryDirectory() as folder:
        session = onnxruntime_session(graph.model.SerializeToString(), None, profile_in=Path(folder), plain=True)
        session.run(None, dict(inputs))
        (operators,) = read_onnxruntime_profile(Path(session.end_profiling()))
    weights = {each.name for each in graph.model.graph.initializer}
    nodes = {node.name: node for node in graph.model.graph.node}
    weights.update(output for name in graph.constant for output in nodes[name].output)
    layers = []
    for name, _, told in operators:
        if name not in graph.nodes or name in graph.constant:
            continue
        read, written = (_shapes(told[f"{side}_type_shape"]) for side in ("input", "output"))
        count = flop(told["op_name"], read, written)
        if count:
            is_weight = nodes[name].input[1] in weights
            first, second, *_ = map(prod, read)
            moved = first + prod(written[0]) + (0 if is_weight else second)
            layers.append(Layer(name, count, moved, second if is_weight else 0))
    return layers


def least_seconds(layers: Iterable[Layer], batch: int, precision: str, peak: Peak) -> float:
    """Return the roofline's time of a batch, as if every layer were in this precision."""
    size = BYTES[precision]
    return sum(
        max(
            batch * layer.flop / peak.flop_per_second,
            (batch * layer.activations + layer.weights) * size / peak.bytes_per_second,
        )
        for layer in layers
    )


def _shapes(told: list[dict[str, Any]]) -> list[list[int]]:
    return [next(iter(each.values())) for each in told]
