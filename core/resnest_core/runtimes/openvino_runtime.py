"""OpenVINO, on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import Self

from resnest_core.card import ModelCard, read_card
from resnest_core.cpus import allowed_cpus
from resnest_core.errors import PrecisionUnavailableError
from resnest_core.runtimes.base import Runtime
from resnest_core.runtimes.cpu_instructions import check_int8
from resnest_core.runtimes.openvino_files import import_openvino, read_network
from resnest_core.tensors import INPUT_TYPES, Tensors, input_names, output_names

if TYPE_CHECKING:
    import openvino

ROI_ALIGN = "ROIAlign"  # OpenVINO's name of the operator


def compile_options(
    core: openvino.Core, card: ModelCard, threads: int | None, instances: int = 1
) -> dict[str, str | int | bool]:
    """Return the options that every model is compiled with; threads None: each instance has its share of the CPUs.

    Raises:
        PrecisionUnavailableError: the CPU doesn't compute the card's precision.
    """
    has_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if card.precision == "bf16" and not has_bf16:
        raise PrecisionUnavailableError(f"This CPU computes no bf16, which {card.name} is for: export fp32 or int8.")
    check_int8(card)
    unquantized = card.unquantized_precision if card.precision == "int8" else card.precision
    return {
        # OpenVINO's default is bf16 where the CPU has it, which changes scores by 1e-2.
        "INFERENCE_PRECISION_HINT": "bf16" if unquantized == "bf16" and has_bf16 else "f32",
        **_resources(threads, instances),
    }


def fp32_options(threads: int | None, instances: int = 1) -> dict[str, str | int | bool]:
    """Return the options that compute any model in fp32: quantized values are dequantized first."""
    return {
        "INFERENCE_PRECISION_HINT": "f32",
        "LP_TRANSFORMS_MODE": False,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        **_resources(threads, instances),
    }


def _resources(threads: int | None, instances: int) -> dict[str, str | int | bool]:
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": instances,
        "INFERENCE_NUM_THREADS": threads * instances if threads else allowed_cpus(),
        # With pinning, both threads were seen on one core while another process kept the second core busy.
        "ENABLE_CPU_PINNING": False,
    }


def compile_network(
    core: openvino.Core, model: openvino.Model, options: dict[str, str | int | bool]
) -> openvino.CompiledModel:
    """Return a compiled model; where it computes in bf16, the regions stay in fp32."""
    if options["INFERENCE_PRECISION_HINT"] == "bf16":
        keep_regions_in_fp32(model)
    return core.compile_model(model, "CPU", options)


def keep_regions_in_fp32(model: openvino.Model) -> None:
    """Add the regions that RoIAlign reads, and their images' indices, to the outputs of `model`.

    Under a hint for bf16 OpenVINO computes in fp32 only what leads to an output without a further layer in between. The
    regions' coordinates would be rounded to 8 bits, which moves them by up to 4 px.
    """
    regions = [
        node.input_value(port) for node in model.get_ops() if node.get_type_name() == ROI_ALIGN for port in (1, 2)
    ]
    if regions:
        model.add_outputs(regions)


class OpenVinoRuntime(Runtime):
    """Runs the exported file, or the OpenVINO files that `resnest export --to openvino` wrote."""

    name = "openvino"
    title = "OpenVINO"
    packages = ("openvino", "onnx")
    devices = ("cpu",)
    device = "cpu"

    def __init__(self, model: openvino.CompiledModel, card: ModelCard) -> None:
        self._model = model
        self.card = card
        self._inputs = input_names(card.has_masks)
        self._outputs = output_names(card.has_masks)

    @classmethod
    def load(cls, path: Path, *, device: str | None = None, threads: int | None = None, instances: int = 1) -> Self:
        cls.checked_device(device)
        card = read_card(path)
        model = read_network(path)
        core = import_openvino().Core()
        options = compile_options(core, card, threads, instances)
        return cls(compile_network(core, model, options), card)

    @classmethod
    def load_in_fp32(
        cls, path: Path, *, device: str | None = None, threads: int | None = None, instances: int = 1
    ) -> Self:
        cls.checked_device(device)
        model = read_network(path)
        return cls(
            import_openvino().Core().compile_model(model, "CPU", fp32_options(threads, instances)), read_card(path)
        )

    def run(self, inputs: Tensors) -> Tensors:
        # One infer request per call: `run` may be called from several threads.
        request = self._model.create_infer_request()
        feed = {name: np.ascontiguousarray(inputs[name], INPUT_TYPES[name]) for name in self._inputs}
        results = request.infer(feed)
        return {name: np.array(results[name]) for name in self._outputs}
