"""ONNX Runtime, on the CPU or through CUDA; the latter has not been run on a GPU yet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from resnest_core.card import ModelCard
from resnest_core.errors import InvalidModelError, MissingExtraError, RuntimeUnavailableError
from resnest_core.runtimes.base import Runtime
from resnest_core.tensors import Tensors, input_names, output_names

if TYPE_CHECKING:
    import onnxruntime

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def session_options(threads: int | None, instances: int = 1) -> onnxruntime.SessionOptions:
    """Return the options of every session; threads None: each instance has its share of the cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Batches that run at the same time have these in common, and each the thread that it is run from.
    options.intra_op_num_threads = threads or (0 if instances == 1 else max((os.cpu_count() or 1) // instances, 1))
    options.log_severity_level = 3
    # Waiting threads otherwise spin, which costs a shared machine more than it gains.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


class OnnxRuntime(Runtime):
    """Runs the exported file as it is: ONNX Runtime inlines the custom ops' function bodies."""

    name = "onnxruntime"

    def __init__(self, session: onnxruntime.InferenceSession, card: ModelCard) -> None:
        self._session = session
        self.card = card
        self.device = "cuda:0" if PROVIDERS["cuda"] in session.get_providers() else "cpu"
        self._inputs = input_names(card.has_masks)
        self._outputs = output_names(card.has_masks)

    @classmethod
    def load(cls, path: Path, *, device: str = "cpu", threads: int | None = None, instances: int = 1) -> Self:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtraError("onnxruntime", "server") from error
        provider = PROVIDERS[device]
        if provider not in onnxruntime.get_available_providers():
            raise RuntimeUnavailableError(f"ONNX Runtime has no {device} here: install onnxruntime-gpu, or use cpu.")
        try:
            session = onnxruntime.InferenceSession(path, session_options(threads, instances), providers=[provider])
        except Exception as error:  # ONNX Runtime raises a class of its own per kind of damage
            raise InvalidModelError(f"{path} is damaged or not an ONNX model: export it again.") from error
        if provider not in session.get_providers():  # without a driver it takes the CPU, and only warns
            raise RuntimeUnavailableError(f"ONNX Runtime found no {device} device here: check its driver, or use cpu.")
        card = ModelCard.from_metadata(session.get_modelmeta().custom_metadata_map, path)
        if card.precision == "bf16":
            raise RuntimeUnavailableError(f"ONNX Runtime has no bf16, which {path} is for: use the runtime openvino.")
        return cls(session, card)

    def run(self, inputs: Tensors) -> Tensors:
        feed: dict[str, Any] = {name: inputs[name] for name in self._inputs}
        return dict(zip(self._outputs, self._session.run(self._outputs, feed), strict=True))
