"""Contracts of the two operators: attributes, element types, layouts and shapes.

Single source for both TensorRT plugin interfaces, the kernel compiler and the tests. The reference implementations in
`resnest_export.ops` define the operators' semantics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from resnest_core.errors import ParameterError

LEVELS = 4
MAX_CANDIDATES = 4096  # boxes of an image that the NMS kernel holds in registers
MAX_OUTPUT = 1000
MAX_SAMPLES = 1024  # per side of an output cell, so that an extreme region can't stall the GPU

# An int, or TensorRT's symbolic expression for a dynamic size: shape rules only pass them through.
Dim = TypeVar("Dim")
Shape = Sequence["Dim | int"]


@dataclass(frozen=True)
class TensorType:
    """Element type, named as in NumPy, and layout: row-major, or with the channels (axis 1 of 4) last in memory.

    In TensorRT, row-major is LINEAR; channels last is HWC for float32 and HWC8 for the 16-bit types. HWC8 has the same
    element order as HWC if the number of channels is a multiple of 8.
    """

    dtype: str
    channels_last: bool = False


@dataclass(frozen=True)
class Signature:
    """One combination of types that a kernel is compiled for, in the operator's order."""

    inputs: tuple[TensorType, ...]
    outputs: tuple[TensorType, ...]


@dataclass(frozen=True)
class Operator:
    """An operator of domain `resnest`: its name, its tensors' names in order, and the supported type combinations."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    signatures: tuple[Signature, ...]


class Attributes(Protocol):
    """Common interface of both operators' attributes."""

    def output_shapes(self, input_shapes: Sequence[Shape[Dim]]) -> tuple[tuple[Dim | int, ...], ...]:
        """Return the outputs' shapes for the inputs' shapes."""
        ...


@dataclass(frozen=True)
class RoIAlignAttributes:
    """Attributes of `MultiLevelRoIAlign(f0, f1, f2, f3, rois) -> pooled`.

    Args:
        output_size: S, output cells per side.
        strides: stride in pixels of each of the four maps, finest first.
        finest_scale: regions of area (2·finest_scale)² pixels and above are pooled from coarser maps than the finest.
        sampling_ratio: samples per side of an output cell; 0: the number of map cells per output cell, rounded up.

    Raises:
        ParameterError: a value is out of range.
    """

    output_size: int
    strides: tuple[int, ...]
    finest_scale: float = 56.0
    sampling_ratio: int = 0

    def __post_init__(self) -> None:
        if self.output_size < 1:
            raise ParameterError(f"output_size must be at least 1, not {self.output_size}.")
        if len(self.strides) != LEVELS or min(self.strides) < 1:
            raise ParameterError(f"strides must be {LEVELS} positive numbers of pixels, not {list(self.strides)}.")
        if not (math.isfinite(self.finest_scale) and self.finest_scale > 0):
            raise ParameterError(f"finest_scale must be a positive number of pixels, not {self.finest_scale}.")
        if not 0 <= self.sampling_ratio <= MAX_SAMPLES:
            raise ParameterError(f"sampling_ratio must be from 0 to {MAX_SAMPLES}, not {self.sampling_ratio}.")

    def output_shapes(self, input_shapes: Sequence[Shape[Dim]]) -> tuple[tuple[Dim | int, ...], ...]:
        """Return ((R, C, S, S),) for the shapes of four maps (B, C, H, W) and of the rois (R, 5)."""
        _expect_ranks(ROI_ALIGN, input_shapes, (4, 4, 4, 4, 2))
        _, channels, _, _ = input_shapes[0]
        count, _ = input_shapes[LEVELS]
        return ((count, channels, self.output_size, self.output_size),)


@dataclass(frozen=True)
class NmsAttributes:
    """Attributes of `BatchedNMS(boxes, scores, groups) -> indices, num`.

    Args:
        iou_threshold: a box is suppressed by an intersection over union above it, not at it.
        max_output: K, maximum number of boxes kept per image.

    Raises:
        ParameterError: a value is out of range.
    """

    iou_threshold: float
    max_output: int

    def __post_init__(self) -> None:
        if not 0 <= self.iou_threshold <= 1:
            raise ParameterError(f"iou_threshold must be from 0 to 1, not {self.iou_threshold}.")
        if not 1 <= self.max_output <= MAX_OUTPUT:
            raise ParameterError(f"max_output must be from 1 to {MAX_OUTPUT}, not {self.max_output}.")

    def output_shapes(self, input_shapes: Sequence[Shape[Dim]]) -> tuple[tuple[Dim | int, ...], ...]:
        """Return ((B, K), (B, 1)) for the shapes of boxes (B, M, 4), scores (B, M) and groups (B, M)."""
        _expect_ranks(NMS, input_shapes, (3, 2, 2))
        batch, candidates = input_shapes[1]
        if isinstance(candidates, int):
            check_candidates(candidates)
        return ((batch, self.max_output), (batch, 1))


def check_candidates(candidates: int) -> None:
    """Raise ParameterError if an image has more boxes than the NMS kernel supports."""
    if candidates > MAX_CANDIDATES:
        raise ParameterError(
            f"BatchedNMS takes at most {MAX_CANDIDATES} boxes of an image on a GPU, not {candidates}: take the best."
        )


def _expect_ranks(operator: Operator, shapes: Sequence[Sequence[object]], ranks: tuple[int, ...]) -> None:
    found = tuple(len(shape) for shape in shapes)
    if found != ranks:
        raise ParameterError(f"{operator.name} takes inputs of {list(ranks)} axes, not {list(found)}.")


def _roi_align_signature(dtype: str, channels_last: bool) -> Signature:
    maps = TensorType(dtype, channels_last)
    return Signature(inputs=(*[maps] * LEVELS, TensorType("float32")), outputs=(maps,))


ROI_ALIGN = Operator(
    name="MultiLevelRoIAlign",
    inputs=("f0", "f1", "f2", "f3", "rois"),
    outputs=("pooled",),
    # Sums and coordinates are float32 for all map types: float16's 11-bit significand can't represent coordinates.
    signatures=tuple(
        _roi_align_signature(dtype, channels_last)
        for dtype in ("float32", "float16", "bfloat16")
        for channels_last in (False, True)
    ),
)

NMS = Operator(
    name="BatchedNMS",
    inputs=("boxes", "scores", "groups"),
    outputs=("indices", "num"),
    signatures=(
        Signature(
            inputs=(TensorType("float32"), TensorType("float32"), TensorType("int32")),
            outputs=(TensorType("int32"), TensorType("int32")),
        ),
    ),
)
