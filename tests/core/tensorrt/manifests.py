"""A TensorRT engine's manifest and the machine that it fits, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from resnest_core.hashing import sha256
from resnest_core.runtimes.tensorrt.manifest import EngineManifest, EngineProfile, Flavour, Machine, manifest_path

MACHINE = Machine(
    tensorrt_flavour=Flavour.TENSORRT,
    tensorrt_version="10.13.2.6",
    gpu_name="NVIDIA L4",
    compute_capability="8.9",
    cuda_version="13.0",
)
PROFILES = (EngineProfile(min=(1, 320, 320), opt=(4, 320, 448), max=(8, 544, 544)),)


def make_manifest(**changes: Any) -> EngineManifest:
    """Return a manifest that fits MACHINE, but for what is changed."""
    values: dict[str, Any] = {
        "model": "mask_rcnn_s50",
        "tensorrt_flavour": "tensorrt",
        "tensorrt_version": "10.13.2.6",
        "cuda_version": "13.0",
        "gpu_name": "NVIDIA L4",
        "compute_capability": "8.9",
        "precision": "fp16",
        "profiles": PROFILES,
        "onnx_sha256": "0" * 64,
        "kernels_sha256": "0" * 64,
        "engine_sha256": "0" * 64,
        "build_options": {},
        "project_version": "0",
    }
    return EngineManifest.model_validate(values | changes)


def write_engine(onnx: Path, content: bytes = b"an engine", **changes: Any) -> Path:
    """Write an engine and its manifest beside an ONNX file, and return the engine's path."""
    plan = onnx.with_name("model.plan")
    plan.write_bytes(content)
    hashes = {"onnx_sha256": sha256(onnx), "engine_sha256": sha256(plan)}
    make_manifest(**hashes | changes).write(manifest_path(plan))
    return plan
