"""Reads a detector's network into OpenVINO: from OpenVINO's own files if there are any, else from the ONNX file."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from resnest_core.errors import InvalidModelError, MissingExtraError
from resnest_core.hashing import sha256

if TYPE_CHECKING:
    import openvino

IR = "model.xml"
"""OpenVINO's description of a network; its weights are in `model.bin` in the same folder."""
ONNX_SHA256 = "resnest_onnx_sha256"


def read_network(onnx_path: Path) -> openvino.Model:
    """Read OpenVINO's own files if they were made from the ONNX file in the same folder, else convert that file.

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
        made_of = model.get_rt_info(ONNX_SHA256).value
    except RuntimeError as error:
        raise InvalidModelError(f"{path} is damaged: export it again, or delete it.") from error
    if made_of != sha256(onnx_path):
        return convert(onnx_path)
    return model


def convert(onnx_path: Path) -> openvino.Model:
    """Convert an exported ONNX file with its functions inlined: OpenVINO's frontend knows no functions.

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
    plain = onnx.inliner.inline_local_functions(proto).SerializeToString()
    del proto
    try:
        return openvino.Core().read_model(plain)
    except RuntimeError as error:
        raise InvalidModelError(f"OpenVINO can't read {onnx_path}: export it again, or use onnxruntime.") from error


def save(onnx_path: Path) -> Path:
    """Convert an exported ONNX file to OpenVINO's own files in the same folder, weights unchanged; return the `.xml`.

    Raises:
        InvalidModelError, MissingExtraError: see `convert`.
    """
    openvino = import_openvino()
    model = convert(onnx_path)
    model.set_rt_info(sha256(onnx_path), ONNX_SHA256)
    path = onnx_path.with_name(IR)
    openvino.save_model(model, path, compress_to_fp16=False)
    return path


def import_openvino() -> ModuleType:
    """Return the package.

    Raises:
        MissingExtraError: it isn't installed.
    """
    try:
        return import_module("openvino")
    except ImportError as error:
        raise MissingExtraError(error.name or "openvino", "openvino") from error
