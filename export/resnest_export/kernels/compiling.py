"""Compiles the two kernels to PTX, without a GPU.

The PTX runs on every GPU from sm_80 on: the driver, or TensorRT when it loads an engine, compiles it to machine code.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from resnest_core.errors import MissingExtraError, ResNeStError
from resnest_export.kernels.contracts import (
    LEVELS,
    MAX_CANDIDATES,
    MAX_SAMPLES,
    NMS,
    ROI_ALIGN,
    NmsAttributes,
    RoIAlignAttributes,
    Signature,
    check_candidates,
)
from resnest_export.kernels.launching import CHANNELS_OF_A_PROGRAM

COMPUTE_CAPABILITY = 80
PTX_VERSION = 80  # the assemblers of CUDA 12 and 13.0 reject the newer PTX that newer versions of `triton` generate
SCRATCH_PARAMETERS = 2  # pointers that the Triton compiler appends to each kernel; these kernels use neither
VALUES_OF_A_THREAD = 8
MAX_WARPS = 16

_TRITON_TYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "int32": "i32"}


@dataclass(frozen=True)
class CompiledKernel:
    """A kernel's PTX and launch configuration; `resnest_export.kernels.launching` gives grid and scalars.

    Attributes:
        name: name of the PTX entry point.
        ptx: PTX for `target` and every later GPU.
        target: the oldest supported architecture, such as "sm_80".
        num_warps: warps (of 32 threads) per program.
        shared_bytes: dynamic shared memory per program, in bytes.
        parameters: (name, type) in launch order: pointers to inputs, int32 scalars, pointers to outputs.
            Types are written as in the Triton language: "*fp32" is a pointer to float32, "i32" a scalar.
        constants: values of the compile-time constants.
    """

    name: str
    ptx: str
    target: str
    num_warps: int
    shared_bytes: int
    parameters: tuple[tuple[str, str], ...]
    constants: Mapping[str, Any]

    @property
    def threads(self) -> int:
        """Threads per program: the launch's block is (threads, 1, 1)."""
        return 32 * self.num_warps


@functools.cache
def compile_roi_align(attributes: RoIAlignAttributes, signature: Signature, channels: int) -> CompiledKernel:
    """Compile `MultiLevelRoIAlign` for one combination of types and C channels.

    Raises:
        MissingExtraError: the package `triton` isn't installed.
    """
    _require_triton()
    from resnest_export.kernels.roi_align import multi_level_roi_align

    constants = roi_align_constants(attributes, signature, channels)
    types = _pointers(ROI_ALIGN.inputs, ROI_ALIGN.outputs, signature)
    return _compile(
        multi_level_roi_align, types, constants, warps_for(constants["BLOCK_CELLS"] * constants["BLOCK_CHANNELS"])
    )


@functools.cache
def compile_nms(attributes: NmsAttributes, candidates: int = MAX_CANDIDATES) -> CompiledKernel:
    """Compile `BatchedNMS` for up to `candidates` boxes per image; fewer candidates make each iteration faster.

    Raises:
        MissingExtraError: the package `triton` isn't installed.
        ParameterError: `candidates` exceeds MAX_CANDIDATES.
    """
    _require_triton()
    from resnest_export.kernels.nms import batched_nms

    constants = nms_constants(attributes, candidates)
    types = _pointers(NMS.inputs, NMS.outputs, NMS.signatures[0])
    # Fused multiply-adds round once instead of twice, which would change decisions at the threshold.
    return _compile(batched_nms, types, constants, warps_for(constants["BLOCK"]), fuse=False)


def roi_align_constants(attributes: RoIAlignAttributes, signature: Signature, channels: int) -> dict[str, Any]:
    """Return the compile-time constants of `MultiLevelRoIAlign`."""
    return {
        "CHANNELS": channels,
        "SIZE": attributes.output_size,
        **{f"STRIDE{level}": attributes.strides[level] for level in range(LEVELS)},
        "FINEST_SCALE": float(attributes.finest_scale),
        "SAMPLING_RATIO": attributes.sampling_ratio,
        "MAX_SAMPLES": MAX_SAMPLES,
        "CHANNELS_LAST": signature.outputs[0].channels_last,
        "BLOCK_CELLS": power_of_two(attributes.output_size),
        "BLOCK_CHANNELS": min(power_of_two(channels), CHANNELS_OF_A_PROGRAM),
    }


def nms_constants(attributes: NmsAttributes, candidates: int) -> dict[str, Any]:
    """Return the compile-time constants of `BatchedNMS` for up to `candidates` boxes per image.

    Raises:
        ParameterError: `candidates` exceeds MAX_CANDIDATES.
    """
    check_candidates(candidates)
    return {
        "IOU_THRESHOLD": float(attributes.iou_threshold),
        "MAX_OUTPUT": attributes.max_output,
        "BLOCK": power_of_two(candidates),
    }


def kernels_sha256() -> str:
    """Return the sha256 of the source files that determine the kernels' results, for an engine's manifest."""
    folder = resources.files("resnest_export.kernels")
    digest = hashlib.sha256()
    for name in ("compiling.py", "contracts.py", "launching.py", "nms.py", "roi_align.py"):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def power_of_two(count: int) -> int:
    """Return the smallest power of two that is at least `count` (at least 1)."""
    return 1 << (count - 1).bit_length()


def warps_for(values: int) -> int:
    """Return the warps (a power of two) of a program that holds `values` values, so that they fit in registers."""
    return min(max(values // (32 * VALUES_OF_A_THREAD), 1), MAX_WARPS)


def _require_triton() -> None:
    try:
        import triton  # noqa: F401
    except ImportError as e:
        raise MissingExtraError("triton", "tensorrt") from e


def _pointers(inputs: Sequence[str], outputs: Sequence[str], signature: Signature) -> dict[str, str]:
    types = zip((*inputs, *outputs), (*signature.inputs, *signature.outputs), strict=True)
    return {name: "*" + _TRITON_TYPES[its.dtype] for name, its in types}


def _compile(
    kernel: Any, pointers: Mapping[str, str], constants: Mapping[str, Any], num_warps: int, fuse: bool = True
) -> CompiledKernel:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names: list[str] = kernel.arg_names
    parameters = tuple((name, pointers.get(name, "i32")) for name in names if name not in constants)
    # Tensors are aligned to 16 bytes, so the compiler can vectorise loads and stores.
    aligned = {(names.index(name),): [["tt.divisibility", 16]] for name in pointers}
    source = ASTSource(
        fn=kernel,
        signature={**dict.fromkeys(names, "constexpr"), **dict(parameters)},
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs=aligned,
    )
    target = GPUTarget("cuda", COMPUTE_CAPABILITY, 32)
    options = {"num_warps": num_warps, "ptx_version": PTX_VERSION, "enable_fp_fusion": fuse}
    with triton.knobs.compilation.scope():
        triton.knobs.compilation.disable_line_info = True  # keep source paths out of engines
        compiled = triton.compile(source, target=target, options=options)
    return CompiledKernel(
        name=compiled.metadata.name,
        ptx=_without_scratch(compiled.asm["ptx"], len(parameters)),
        target=f"sm_{COMPUTE_CAPABILITY}",
        num_warps=num_warps,
        shared_bytes=compiled.metadata.shared,
        parameters=parameters,
        constants=constants,
    )


def _without_scratch(ptx: str, count: int) -> str:
    """Return the PTX with only the first `count` parameters: only the Triton runtime's launcher passes the others."""
    header = re.search(r"\.entry \w+\(\n(?P<parameters>[^)]*)\n\)", ptx)
    lines = header["parameters"].split(",\n") if header else []
    scratch = [line.split()[-1] for line in lines[count:]]
    if header is None or len(scratch) != SCRATCH_PARAMETERS or any(ptx.count(name) != 1 for name in scratch):
        raise ResNeStError(
            "This version of the package triton generates unexpected PTX: install the version in constraints.txt."
        )
    start, end = header.span("parameters")
    return ptx[:start] + ",\n".join(lines[:count]) + ptx[end:]
