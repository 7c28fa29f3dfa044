"""OpenVINO, on the CPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import Self

from resnest_core.card import ModelCard
from resnest_core.errors import RuntimeUnavailableError
from resnest_core.runtimes.base import Runtime
from resnest_core.runtimes.openvino_files import import_openvino, read_network
from resnest_core.tensors import INPUT_TYPES, Tensors, input_names, output_names

if TYPE_CHECKING:
    import openvino

HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}  # what isn't in int8 stays in fp32


def compile_options(
    core: openvino.Core, card: ModelCard, threads: int | None, instances: int = 1
) -> dict[str, str | int]:
    """Return the options that every model is compiled with; threads None: each instance has its share of the cores.

    Raises:
        RuntimeUnavailableError: the CPU doesn't compute the card's precision.
    """
    if card.precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise RuntimeUnavailableError(f"This CPU computes no bf16, which {card.name} is for: export fp32 or int8.")
    return {
        # By itself OpenVINO takes bf16 where the CPU has it: scores move by 1e-2.
        "INFERENCE_PRECISION_HINT": HINTS.get(card.precision, "f32"),
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": instances,
        "INFERENCE_NUM_THREADS": threads * instances if threads else os.cpu_count() or 1,
        # Pinned threads were seen on one core together, where another process kept the second one busy.
        "ENABLE_CPU_PINNING": False,
    }


class OpenVinoRuntime(Runtime):
    """Runs the exported file, or what `resnest export --to openvino` wrote beside it."""

    name = "openvino"
    device = "cpu"

    def __init__(self, model: openvino.CompiledModel, card: ModelCard) -> None:
        self._model = model
        self.card = card
        self._inputs = input_names(card.has_masks)
        self._outputs = output_names(card.has_masks)

    @classmethod
    def load(cls, path: Path, *, device: str = "cpu", threads: int | None = None, instances: int = 1) -> Self:
        if device != "cpu":
            raise RuntimeUnavailableError(
                f"The openvino runtime runs on cpu, not on {device}: use onnxruntime for that."
            )
        model, card = read_network(path)
        core = import_openvino().Core()
        options = compile_options(core, card, threads, instances)
        return cls(core.compile_model(model, "CPU", options), card)

    def run(self, inputs: Tensors) -> Tensors:
        # A request of its own per call: `run` may be called from several threads.
        request = self._model.create_infer_request()
        feed = {name: np.ascontiguousarray(inputs[name], INPUT_TYPES[name]) for name in self._inputs}
        results = request.infer(feed)
        return {name: np.array(results[name]) for name in self._outputs}
