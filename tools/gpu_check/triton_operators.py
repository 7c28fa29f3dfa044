"""The two operators in PyTorch, computed by this project's kernels: the Triton language compiles and starts them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from resnest_export.kernels.compiling import nms_constants, roi_align_constants, warps_for
from resnest_export.kernels.contracts import ROI_ALIGN, NmsAttributes, RoIAlignAttributes
from resnest_export.kernels.launching import Launch, nms_launch, roi_align_launch
from resnest_export.models import detector, roi_heads, rpn
from resnest_export.ops.roi_align import FINEST_SCALE


@contextmanager
def kernels_in_models() -> Iterator[None]:
    """Let the detectors compute both operators with the kernels."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(roi_heads, "multi_level_roi_align", multi_level_roi_align))
        for module in (rpn, detector):
            stack.enter_context(patch.object(module, "batched_nms", batched_nms))
        yield


def multi_level_roi_align(
    features: Sequence[Tensor],
    rois: Tensor,
    *,
    output_size: int,
    strides: Sequence[int],
    finest_scale: float = FINEST_SCALE,
    sampling_ratio: int = 0,
) -> Tensor:
    """See `resnest_export.ops.multi_level_roi_align`; the maps' layout in memory decides which kernel runs."""
    from resnest_export.kernels import roi_align

    first = features[0]
    is_last = first.is_contiguous(memory_format=torch.channels_last) and not first.is_contiguous()
    dtype = str(first.dtype).removeprefix("torch.")
    signature = next(
        each
        for each in ROI_ALIGN.signatures
        if (each.inputs[0].dtype, each.inputs[0].channels_last) == (dtype, is_last)
    )
    attributes = RoIAlignAttributes(output_size, tuple(strides), finest_scale, sampling_ratio)
    channels, regions = first.shape[1], len(rois)
    constants = roi_align_constants(attributes, signature, channels)
    maps = [each.permute(0, 2, 3, 1).contiguous() if is_last else each.contiguous() for each in features]
    shape = (output_size, output_size, channels) if is_last else (channels, output_size, output_size)
    pooled = first.new_empty(regions, *shape)
    _start(
        roi_align.multi_level_roi_align,
        roi_align_launch(attributes, [*(each.shape for each in features), rois.shape], channels),
        [*maps, rois.float().contiguous()],
        [pooled],
        constants,
        warps_for(constants["BLOCK_CELLS"] * constants["BLOCK_CHANNELS"]),
    )
    return pooled.permute(0, 3, 1, 2) if is_last else pooled


def batched_nms(
    boxes_xyxy: Tensor, scores: Tensor, groups: Tensor, *, iou_threshold: float, max_output: int
) -> tuple[Tensor, Tensor]:
    """See `resnest_export.ops.batched_nms`."""
    from resnest_export.kernels import nms

    constants = nms_constants(NmsAttributes(iou_threshold, max_output), scores.shape[1])
    indices = groups.new_empty(len(scores), max_output)
    num = groups.new_empty(len(scores), 1)
    _start(
        nms.batched_nms,
        nms_launch([boxes_xyxy.shape, scores.shape, groups.shape]),
        [each.contiguous() for each in (boxes_xyxy, scores, groups)],
        [indices, num],
        constants,
        warps_for(constants["BLOCK"]),
    )
    return indices, num


def _start(
    kernel: Any,
    launch: Launch,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    constants: Mapping[str, Any],
    num_warps: int,
) -> None:
    """Start a kernel on the inputs' device; on the CPU the Triton language must have been told to interpret."""
    if 0 in launch.grid:
        return
    options = {} if inputs[0].is_cpu else {"num_warps": num_warps, "enable_fp_fusion": False}
    kernel[launch.grid](*inputs, *launch.scalars, *outputs, **constants, **options)
