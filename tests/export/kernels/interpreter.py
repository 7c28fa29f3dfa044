"""Runs the kernels in Triton's interpreter, launched as on a GPU: with the same grid, scalars and order.

The interpreter has to be chosen before Triton is imported, so it lives in a process of its own.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnest_export.kernels.compiling import nms_constants, roi_align_constants
from resnest_export.kernels.contracts import ROI_ALIGN, NmsAttributes, RoIAlignAttributes, Signature, TensorType
from resnest_export.kernels.launching import Launch, nms_launch, roi_align_launch

GARBAGE = 77  # what outputs hold before: a kernel has to write every element


class Interpreter:
    """Both operators as functions of tensors; a context manager that holds the other process."""

    def __enter__(self) -> Interpreter:
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(max_workers=1, mp_context=context, initializer=_choose_interpreter)
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def roi_align(
        self, features: Sequence[Tensor], rois: Tensor, attributes: RoIAlignAttributes, channels_last: bool = False
    ) -> Tensor:
        """Pool from features (B, C, H, W) in any of the supported types; they are laid out anew with channels_last."""
        signature = roi_align_signature(features[0].dtype, channels_last)
        channels = features[0].shape[1]
        launch = roi_align_launch(attributes, [feature.shape for feature in (*features, rois)], channels)
        if channels_last:
            features = [feature.permute(0, 2, 3, 1) for feature in features]
        size = attributes.output_size
        shape = (len(rois), size, size, channels) if channels_last else (len(rois), channels, size, size)
        pooled = torch.full(shape, GARBAGE, dtype=features[0].dtype)
        if 0 not in launch.grid:
            constants = roi_align_constants(attributes, signature, channels)
            (pooled,) = self._run("roi_align", "multi_level_roi_align", [*features, rois], launch, [pooled], constants)
        return pooled.permute(0, 3, 1, 2) if channels_last else pooled

    def nms(
        self, boxes: Tensor, scores: Tensor, groups: Tensor, attributes: NmsAttributes, compiled_for: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Keep boxes (B, M, 4), with a kernel for up to `compiled_for` of them, else for M."""
        launch = nms_launch([boxes.shape, scores.shape, groups.shape])
        shapes = attributes.output_shapes([boxes.shape, scores.shape, groups.shape])
        outputs = [torch.full(shape, GARBAGE, dtype=torch.int32) for shape in shapes]
        constants = nms_constants(attributes, compiled_for or scores.shape[1])
        indices, num = self._run("nms", "batched_nms", [boxes, scores, groups], launch, outputs, constants)
        return indices, num

    def _run(
        self,
        module: str,
        kernel: str,
        inputs: Sequence[Tensor],
        launch: Launch,
        outputs: Sequence[Tensor],
        constants: Mapping[str, Any],
    ) -> list[Tensor]:
        # Arrays travel between processes as float32 or int32: NumPy has no bfloat16, and float32 holds all its values.
        arrays = [(_array(tensor), tensor.dtype) for tensor in (*inputs, *outputs)]
        job = self._pool.submit(_run, module, kernel, arrays, len(inputs), launch, constants)
        return [torch.from_numpy(array).to(tensor.dtype) for array, tensor in zip(job.result(), outputs, strict=True)]


def roi_align_signature(dtype: torch.dtype, channels_last: bool) -> Signature:
    """Return the supported combination for maps of this type and layout."""
    maps = TensorType(str(dtype).removeprefix("torch."), channels_last)
    return next(signature for signature in ROI_ALIGN.signatures if signature.outputs[0] == maps)


def _choose_interpreter() -> None:
    os.environ["TRITON_INTERPRET"] = "1"
    torch.set_num_threads(1)


def _run(
    module: str,
    kernel: str,
    arrays: Sequence[tuple[NDArray[Any], torch.dtype]],
    inputs: int,
    launch: Launch,
    constants: Mapping[str, Any],
) -> list[NDArray[Any]]:
    """Run in the other process: pointers to inputs, scalars, pointers to outputs."""
    function = getattr(importlib.import_module(f"resnest_export.kernels.{module}"), kernel)
    tensors = [torch.from_numpy(array).to(dtype) for array, dtype in arrays]
    with np.errstate(invalid="ignore", over="ignore"):
        function[launch.grid](*tensors[:inputs], *launch.scalars, *tensors[inputs:], **constants)
    return [_array(tensor) for tensor in tensors[inputs:]]


def _array(tensor: Tensor) -> NDArray[Any]:
    tensor = tensor.float() if tensor.is_floating_point() else tensor
    return tensor.contiguous().numpy()
