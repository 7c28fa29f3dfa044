"""Runs a network with the runtimes' operator profiling.

Both runtimes run a copy with inlined functions, so that operator names are the same; the options are those of
`resnest_core.runtimes`.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from resnest_core.card import ModelCard
from resnest_core.errors import InvalidModelError, MissingExtraError, RuntimeUnavailableError
from resnest_core.runtimes.onnxruntime_runtime import OnnxRuntime, session_options
from resnest_core.runtimes.openvino_files import import_openvino
from resnest_core.runtimes.openvino_runtime import OpenVinoRuntime, compile_network, compile_options
from resnest_core.runtimes.openvino_ties import decide_as_onnx
from resnest_core.tensors import Tensors, output_names

if TYPE_CHECKING:
    import onnx

KERNEL = "_kernel_time"
PRODUCT = re.compile(r"Conv(?!ert)|Deconv|MatMul|Gemm|FullyConnected")
CONVERSIONS = {
    *("Reorder", "Convert", "FakeQuantize", "Quantize"),  # OpenVINO's
    *("ReorderInput", "ReorderOutput", "Cast", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"),
}
"""Kinds of operators that only change the layout or the type of a tensor."""
PRECISIONS = {
    **dict.fromkeys(("f32", "float"), "fp32"),
    **dict.fromkeys(("f16", "float16"), "fp16"),
    **dict.fromkeys(("bf16", "bfloat16"), "bf16"),
    **dict.fromkeys(("i8", "u8", "int8", "uint8"), "int8"),
}
"""Names of precisions by the runtimes' names of element types."""


class Operator(NamedTuple):
    """One operator as it ran once."""

    name: str
    ms: float
    kind: str
    """The runtime's name of what it computes, such as `Convolution`."""
    precision: str
    """`fp32`, `bf16`, `int8`, or the runtime's name of another type of its inputs."""
    parts: tuple[str, ...] = ()
    """Names of the operators that were fused into it, where the runtime tells them."""

    @property
    def is_product(self) -> bool:
        """Whether it is a convolution or a matrix product, alone or with others fused into it."""
        return PRODUCT.search(self.kind) is not None

    @property
    def is_conversion(self) -> bool:
        """Whether it only changes the layout or the type of a tensor."""
        return self.kind in CONVERSIONS


Operators = list[Operator]
"""In the order in which they ran."""


class ProfiledNetwork(ABC):
    """A network whose operators are timed in each run."""

    @abstractmethod
    def run(self, inputs: Tensors) -> Tensors:
        """Run the network."""

    @abstractmethod
    def note(self) -> None:
        """Record the operator times of the last run; called outside the measured time."""

    @abstractmethod
    def operators(self) -> list[Operators]:
        """Return each run's operators; the network can't be run afterwards."""


def load_profiled(
    runtime: str, model: onnx.ModelProto, card: ModelCard, threads: int | None, folder: Path
) -> ProfiledNetwork:
    """Load a model whose functions are inlined; the folder is for what the runtime writes.

    Raises:
        MissingExtraError: the runtime isn't installed.
        InvalidModelError: the runtime can't read the model.
        RuntimeUnavailableError: the runtime can't compute the model's precision here.
    """
    return PROFILED[runtime](model, card, threads, folder)


class ProfiledOnnxRuntime(ProfiledNetwork):
    """ONNX Runtime writes a file at the end."""

    def __init__(self, model: onnx.ModelProto, card: ModelCard, threads: int | None, folder: Path) -> None:
        if card.precision == "bf16":
            raise RuntimeUnavailableError("ONNX Runtime has no bf16, which this model is for: use --runtime openvino.")
        self._session = onnxruntime_session(model.SerializeToString(), threads, profile_in=folder)
        self._outputs = output_names(card.has_masks)

    def run(self, inputs: Tensors) -> Tensors:
        return dict(zip(self._outputs, self._session.run(self._outputs, dict(inputs)), strict=True))

    def note(self) -> None:
        pass

    def operators(self) -> list[Operators]:
        return [
            [Operator(name, ms, told["op_name"], _onnxruntime_precision(told)) for name, ms, told in run]
            for run in read_onnxruntime_profile(Path(self._session.end_profiling()))
        ]


def onnxruntime_session(
    model: bytes, threads: int | None, *, profile_in: Path | None = None, plain: bool = False
) -> Any:
    """Return a session; `plain`: nodes run as they stand in the graph, none is fused or left out.

    Raises:
        MissingExtraError: ONNX Runtime isn't installed.
        InvalidModelError: it can't read the model.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "server") from error
    options = session_options(threads)
    if profile_in:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile_in / "profile")
    if plain:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        # The profile lacks the shapes of prepacked weights.
        options.add_session_config_entry("session.disable_prepacking", "1")
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises different classes
        raise InvalidModelError("ONNX Runtime can't read the model: export it again.") from error


def read_onnxruntime_profile(file: Path) -> list[list[tuple[str, float, dict[str, Any]]]]:
    """Return of each run the operators: name, milliseconds, and what else the profile tells (types and shapes)."""
    events = json.loads(file.read_text(encoding="utf-8"))
    operators = [event for event in events if event.get("cat") == "Node" and event["name"].endswith(KERNEL)]
    operators.sort(key=lambda event: event["ts"])
    runs = []
    for run in (event for event in events if event["name"] == "model_run"):
        within = [each for each in operators if run["ts"] <= each["ts"] <= run["ts"] + run["dur"]]
        runs.append([(each["name"].removesuffix(KERNEL), each["dur"] / 1e3, each["args"]) for each in within])
    return runs


def _onnxruntime_precision(told: dict[str, Any]) -> str:
    """Return the precision of the first input of `{"input_type_shape": [{"float": [1, 64, 80, 80]}, …]}`."""
    first = next((kind for each in told["input_type_shape"] for kind in each), "")
    return PRECISIONS.get(first, first)


class ProfiledOpenVino(ProfiledNetwork):
    """OpenVINO reports means over all runs so far."""

    def __init__(self, model: onnx.ModelProto, card: ModelCard, threads: int | None, folder: Path) -> None:  # noqa: ARG002
        core = import_openvino().Core()
        options = {**compile_options(core, card, threads), "PERF_COUNT": True}
        compiled = openvino_network(core, model.SerializeToString(), options)
        self._request = compiled.create_infer_request()
        self._outputs = output_names(card.has_masks)
        self._means: list[dict[str, float]] = []
        self._kinds = {each.name: each for each in compiled_operators(compiled)}

    def run(self, inputs: Tensors) -> Tensors:
        results = self._request.infer(dict(inputs))
        return {name: np.array(results[name]) for name in self._outputs}

    def note(self) -> None:
        told = self._request.get_profiling_info()
        self._means.append({each.node_name: each.real_time.total_seconds() * 1e3 for each in told})
        for each in told:  # those that aren't in the compiled graph have names of the profile's own
            self._kinds.setdefault(each.node_name, Operator(each.node_name, 0.0, each.node_type, ""))

    def operators(self) -> list[Operators]:
        runs, before = [], dict[str, float]()
        for number, means in enumerate(self._means, start=1):
            until_now = {name: mean * number for name, mean in means.items()}
            runs.append(
                [
                    self._kinds[name]._replace(ms=max(total - before.get(name, 0.0), 0.0))
                    for name, total in until_now.items()
                ]
            )
            before = until_now
        return runs


def openvino_network(core: Any, model: bytes, options: dict[str, Any]) -> Any:
    """Return a compiled model.

    Raises:
        InvalidModelError: OpenVINO can't read the model.
    """
    try:
        network = core.read_model(model)
        decide_as_onnx(network)
        return compile_network(core, network, options)
    except RuntimeError as error:
        raise InvalidModelError("OpenVINO can't read the model: export it again, or use onnxruntime.") from error


def compiled_operators(compiled: Any) -> Operators:
    """Return the operators of a network that OpenVINO has compiled, with the precision that it runs each in; 0 ms."""
    found = []
    for node in compiled.get_runtime_model().get_ordered_ops():
        about = node.get_rt_info()
        kind, precision, parts = (
            about[key].astype(str) for key in ("layerType", "runtimePrecision", "originalLayersNames")
        )
        parts = tuple(filter(None, parts.split(",")))
        found.append(Operator(node.get_friendly_name(), 0.0, kind, PRECISIONS.get(precision, precision), parts))
    return found


PROFILED: dict[str, Callable[[onnx.ModelProto, ModelCard, int | None, Path], ProfiledNetwork]] = {
    OnnxRuntime.name: ProfiledOnnxRuntime,
    OpenVinoRuntime.name: ProfiledOpenVino,
}
