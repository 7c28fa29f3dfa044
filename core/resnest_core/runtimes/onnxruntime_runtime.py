"""ONNX Runtime, on the CPU or through CUDA; the latter has not been run on a GPU yet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from resnest_core.card import ModelCard, read_card
from resnest_core.cpus import allowed_cores, allowed_cpus
from resnest_core.errors import (
    InvalidModelError,
    MissingExtraError,
    PrecisionUnavailableError,
    RuntimeUnavailableError,
)
from resnest_core.runtimes.base import Runtime
from resnest_core.runtimes.cpu_instructions import check_int8
from resnest_core.tensors import Tensors, input_names, output_names

if TYPE_CHECKING:
    import onnxruntime

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html lists the options. By default factors are
# rounded to TF32's 11 bits, whose errors Winograd's transforms multiply by eight, and the first run of each shape times
# every algorithm of cuDNN for every convolution.
PROVIDER_OPTIONS: dict[str, dict[str, str]] = {
    "cpu": {},
    "cuda": {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"},
}
DEVICES = {"CPUExecutionProvider": "cpu", "CUDAExecutionProvider": "cuda:0"}


def default_threads(instances: int = 1) -> int:
    """Return how many threads a batch runs on where none are given; 0: as many as ONNX Runtime finds cores.

    ONNX Runtime's own number is one a physical core, without regard to quotas and affinity masks; it even pins a thread
    to a CPU outside of the mask. One a core of those allowed is the same number where nothing is limited.
    """
    # Set explicitly, this number took 0.97 to 1.00 of the CPU time of ONNX Runtime's own and 0.95 to 0.99 of the wall
    # time (2 CPUs, medians of pairs): its threads aren't pinned then.
    cpus, cores = allowed_cpus(), allowed_cores()
    if cores is None and instances == 1 and cpus == os.cpu_count():
        return 0
    return max(min(cpus // instances, cores or cpus), 1)


def session_options(threads: int | None, instances: int = 1) -> onnxruntime.SessionOptions:
    """Return the options of every session; threads None: each instance has its share of the CPUs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Concurrent batches share these threads; each also uses the thread that calls `run`.
    options.intra_op_num_threads = threads or default_threads(instances)
    options.log_severity_level = 3
    # Idle threads would otherwise spin, which costs more than it gains on a shared machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


class OnnxRuntime(Runtime):
    """Runs the exported file as it is: ONNX Runtime inlines the custom ops' function bodies."""

    name = "onnxruntime"
    title = "ONNX Runtime"
    packages = ("onnxruntime",)
    devices = ("cpu", "cuda")

    def __init__(self, session: onnxruntime.InferenceSession, card: ModelCard) -> None:
        self._session = session
        self.card = card
        # A session with CUDA also lists the CPU, for operators that CUDA hasn't.
        self.device = DEVICES[session.get_providers()[0]]
        self._inputs = input_names(card.has_masks)
        self._outputs = output_names(card.has_masks)

    @classmethod
    def load(cls, path: Path, *, device: str | None = None, threads: int | None = None, instances: int = 1) -> Self:
        return cls._load(path, device, threads, instances, in_fp32=False)

    @classmethod
    def load_in_fp32(
        cls, path: Path, *, device: str | None = None, threads: int | None = None, instances: int = 1
    ) -> Self:
        return cls._load(path, device, threads, instances, in_fp32=True)

    @classmethod
    def _load(cls, path: Path, device: str | None, threads: int | None, instances: int, *, in_fp32: bool) -> Self:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtraError("onnxruntime", "server") from error
        device = cls.checked_device(device)
        provider = PROVIDERS[device]
        if provider not in onnxruntime.get_available_providers():
            raise RuntimeUnavailableError(f"ONNX Runtime has no {device} here: install onnxruntime-gpu, or use cpu.")
        card = read_card(path)
        options = session_options(threads, instances)
        if in_fp32:  # the weights of bf16 are in fp32; those of int8 are dequantized, and computed with
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        elif card.precision == "bf16":
            raise PrecisionUnavailableError(f"ONNX Runtime has no bf16, which {path} is for: use the runtime openvino.")
        elif device == "cpu":
            check_int8(card)
        try:
            session = onnxruntime.InferenceSession(path, options, providers=[(provider, PROVIDER_OPTIONS[device])])
        except Exception as error:  # ONNX Runtime raises many classes on damaged files
            raise InvalidModelError(f"{path} is damaged or not an ONNX model: export it again.") from error
        if provider not in session.get_providers():  # without a driver it takes the CPU, and only warns
            raise RuntimeUnavailableError(f"ONNX Runtime found no {device} device here: check its driver, or use cpu.")
        return cls(session, card)

    @classmethod
    def threads_of_batch(cls, instances: int = 1) -> int | None:
        return default_threads(instances) or None

    def run(self, inputs: Tensors) -> Tensors:
        feed: dict[str, Any] = {name: inputs[name] for name in self._inputs}
        return dict(zip(self._outputs, self._session.run(self._outputs, feed), strict=True))
