"""Reads a detector's network into OpenVINO: from OpenVINO's own files if there are any, else from the ONNX file."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from resnest_core.errors import InvalidModelError, MissingExtraError
from resnest_core.hashing import sha256
from resnest_core.runtimes.openvino_ties import decide_as_onnx

if TYPE_CHECKING:
    import openvino

IR = "model.xml"
"""OpenVINO's description of a network; its weights are in `model.bin` in the same folder."""
ONNX_SHA256 = "resnest_onnx_sha256"
CONVERSION = "resnest_conversion"
CURRENT_CONVERSION = "2"
"""Of `convert`: files of another conversion aren't used. Those of the first, without a number, choose any of equals."""


def read_network(onnx_path: Path) -> openvino.Model:
    """Read OpenVINO's own files if `save` made them from the ONNX file in the same folder, else convert that file.

    Files that an earlier version of `convert` made aren't read either.

    Raises:
        InvalidModelError: the files are damaged.
        MissingExtraError: OpenVINO or onnx isn't installed.
    """
    openvino = import_openvino()
    path = onnx_path.with_name(IR)
    if not path.is_file():
        return convert(onnx_path)
    core = openvino.Core()
    # Weights mapped from the file would change under a running model where the file is overwritten in place.
    core.set_property({"ENABLE_MMAP": False})
    try:
        model = core.read_model(path)
    except RuntimeError as error:
        raise InvalidModelError(f"{path} is damaged: export it again, or delete it.") from error
    marks = _marks(onnx_path)
    if any(not model.has_rt_info(key) or model.get_rt_info(key).value != value for key, value in marks.items()):
        return convert(onnx_path)
    return model


def convert(onnx_path: Path) -> openvino.Model:
    """Convert an exported ONNX file; where scores are equal the model decides as ONNX, see `decide_as_onnx`.

    Raises:
        InvalidModelError: the file is damaged.
        MissingExtraError: OpenVINO or onnx isn't installed.
    """
    openvino = import_openvino()
    try:
        import onnx
        import onnx.inliner
    except ImportError as error:
        raise MissingExtraError(error.name or "onnx", "openvino") from error
    try:
        proto = onnx.load(onnx_path)
    except Exception as error:  # protobuf's own exception class
        raise InvalidModelError(f"{onnx_path} is damaged or not an ONNX model: export it again.") from error
    # OpenVINO's frontend knows no functions.
    plain = onnx.inliner.inline_local_functions(proto).SerializeToString()
    del proto
    try:
        model = openvino.Core().read_model(plain)
        decide_as_onnx(model)
    except RuntimeError as error:
        raise InvalidModelError(f"OpenVINO can't read {onnx_path}: export it again, or use onnxruntime.") from error
    return model


def save(onnx_path: Path) -> Path:
    """Convert an exported ONNX file to OpenVINO's own files in the same folder, weights unchanged; return the `.xml`.

    Raises:
        InvalidModelError, MissingExtraError: see `convert`.
    """
    openvino = import_openvino()
    model = convert(onnx_path)
    for key, value in _marks(onnx_path).items():
        model.set_rt_info(value, key)
    path = onnx_path.with_name(IR)
    openvino.save_model(model, path, compress_to_fp16=False)
    return path


def _marks(onnx_path: Path) -> dict[str, str]:
    """Return what `save` writes into OpenVINO's own files, and `read_network` compares."""
    return {ONNX_SHA256: sha256(onnx_path), CONVERSION: CURRENT_CONVERSION}


def import_openvino() -> ModuleType:
    """Return the package.

    Raises:
        MissingExtraError: it isn't installed.
    """
    try:
        return import_module("openvino")
    except ImportError as error:
        raise MissingExtraError(error.name or "openvino", "openvino") from error
