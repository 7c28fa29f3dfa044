"""Inputs of the two kernels with the answers of their references in PyTorch, at sizes for an interpreter or a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from resnest_export.kernels.compiling import (
    CompiledKernel,
    compile_nms,
    compile_roi_align,
    nms_constants,
    roi_align_constants,
)
from resnest_export.kernels.contracts import LEVELS, ROI_ALIGN, NmsAttributes, RoIAlignAttributes, Signature
from resnest_export.kernels.launching import Launch, nms_launch, roi_align_launch
from resnest_export.ops import batched_nms, multi_level_roi_align

STRIDES = (4, 8, 16, 32)
TOLERANCE = {torch.float32: 2e-4, torch.float16: 4e-3, torch.bfloat16: 4e-2}  # of values up to about 4


@dataclass(frozen=True)
class Case:
    """A launch, and what its outputs have to be; tensors lie in memory as the kernel wants them."""

    name: str
    kernel: str
    """Name of the kernel's function."""
    constants: Mapping[str, Any]
    compile: Callable[[], CompiledKernel]
    launch: Launch
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    judge: Callable[[Sequence[Tensor]], str]
    """Returns a figure; raises AssertionError where the outputs are wrong."""


def small_cases() -> Iterator[Case]:
    """Yield cases that an interpreter runs in seconds."""
    for signature in ROI_ALIGN.signatures:
        if signature.inputs[0].dtype != "bfloat16":  # NumPy, which the interpreter computes with, has none
            yield roi_align_case(signature, batch=2, channels=16, size_hw=(160, 224), regions=12, output_size=7)
    yield nms_case(batch=2, candidates=100, max_output=50, groups=3, iou_threshold=0.5)


def large_cases() -> Iterator[Case]:
    """Yield cases of the sizes that a detector at 1333×800 has."""
    for signature in ROI_ALIGN.signatures:
        for output_size, regions in ((7, 1000), (14, 100)):
            yield roi_align_case(
                signature, batch=1, channels=256, size_hw=(800, 1344), regions=regions, output_size=output_size
            )
    yield nms_case(batch=5, candidates=1000, max_output=1000, groups=1, iou_threshold=0.7)
    yield nms_case(batch=1, candidates=3840, max_output=100, groups=80, iou_threshold=0.5)
    yield nms_case(batch=2, candidates=4096, max_output=1000, groups=2, iou_threshold=0.5)


def roi_align_case(
    signature: Signature, *, batch: int, channels: int, size_hw: tuple[int, int], regions: int, output_size: int
) -> Case:
    """Return `MultiLevelRoIAlign` of random maps and regions: small, large, outside, empty and not finite ones."""
    random = torch.Generator().manual_seed(output_size)
    dtype: torch.dtype = getattr(torch, signature.inputs[0].dtype)
    is_last = signature.inputs[0].channels_last
    height, width = size_hw
    maps = [
        torch.randn(batch, channels, height // stride, width // stride, generator=random).to(dtype)
        for stride in STRIDES
    ]
    corners = torch.rand(regions, 2, generator=random) * torch.tensor([width, height])
    sides = torch.tensor([width, height]) * torch.rand(regions, 1, generator=random) ** 3 + 1
    image = torch.randint(0, batch, (regions, 1), generator=random)
    rois = torch.cat([image, corners - 20, corners + sides], dim=1)
    rois[0, 1:] = torch.tensor([-500.0, -500, -400, -450])
    rois[1, 3:] = rois[1, 1:3]
    rois[2, 1] = torch.nan
    attributes = RoIAlignAttributes(output_size, STRIDES)
    expected = multi_level_roi_align(maps, rois, output_size=output_size, strides=STRIDES)

    def judge(outputs: Sequence[Tensor]) -> str:
        pooled = outputs[0].permute(0, 3, 1, 2) if is_last else outputs[0]
        difference = float((pooled.float() - expected.float()).abs().max())
        assert difference <= TOLERANCE[dtype], f"differs by {difference:.1e}, more than {TOLERANCE[dtype]:.0e}"
        return f"within {difference:.1e}"

    layout = "NHWC" if is_last else "NCHW"
    pooled = torch.full((regions, channels, output_size, output_size), 9.0, dtype=dtype)
    return Case(
        name=f"RoIAlign {output_size}×{output_size}, {regions} regions, {signature.inputs[0].dtype}, {layout}",
        kernel="multi_level_roi_align",
        constants=roi_align_constants(attributes, signature, channels),
        compile=lambda: compile_roi_align(attributes, signature, channels),
        launch=roi_align_launch(attributes, [*(each.shape for each in maps), rois.shape], channels),
        inputs=(*(_laid_out(each, is_last) for each in maps), rois),
        outputs=(_laid_out(pooled, is_last),),
        judge=judge,
    )


def nms_case(*, batch: int, candidates: int, max_output: int, groups: int, iou_threshold: float) -> Case:
    """Return `BatchedNMS` of random boxes, some with equal scores, some empty or not finite, some that are none."""
    random = torch.Generator().manual_seed(candidates)
    corners = torch.rand(batch, candidates, 2, generator=random) * 600
    boxes = torch.cat([corners, corners + torch.rand(batch, candidates, 2, generator=random) * 200], dim=2)
    scores = (torch.rand(batch, candidates, generator=random) * 100).round() / 100  # many are equal
    scores[:, ::17] = -torch.inf
    boxes[:, 5, 2:] = boxes[:, 5, :2]
    boxes[:, 7, 0] = torch.nan
    group = torch.randint(0, groups, (batch, candidates), generator=random, dtype=torch.int32)
    attributes = NmsAttributes(iou_threshold, max_output)
    indices, num = batched_nms(boxes, scores, group, iou_threshold=iou_threshold, max_output=max_output)

    def judge(outputs: Sequence[Tensor]) -> str:
        assert torch.equal(outputs[1], num), f"keeps {outputs[1].flatten().tolist()}, not {num.flatten().tolist()}"
        assert torch.equal(outputs[0], indices), "keeps other boxes"
        return f"the same {int(num.sum())} boxes"

    return Case(
        name=f"NMS of {candidates} boxes in {groups} groups, {batch} images",
        kernel="batched_nms",
        constants=nms_constants(attributes, candidates),
        compile=lambda: compile_nms(attributes, candidates),
        launch=nms_launch([boxes.shape, scores.shape, group.shape]),
        inputs=(boxes, scores, group),
        outputs=(torch.full_like(indices, 9), torch.full_like(num, 9)),
        judge=judge,
    )


def _laid_out(maps: Tensor, channels_last: bool) -> Tensor:
    return maps.permute(0, 2, 3, 1).contiguous() if channels_last else maps


assert len(STRIDES) == LEVELS
