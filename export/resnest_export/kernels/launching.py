"""With which grid and scalars each kernel is started, whoever starts it.

A kernel's parameters are, in this order: pointers to the inputs, the int32 scalars of its `Launch`, pointers to the
outputs. That is the order that TensorRT's ahead-of-time plugins pass them in; a launch through the CUDA driver does
the same. Sizes may be ints or TensorRT's expressions of sizes: the rules only multiply them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from resnest_export.kernels.contracts import LEVELS, RoIAlignAttributes

# A power of two as Triton wants it. 8 cells × 128 channels are 8 sums for each of 128 threads.
CHANNELS_OF_A_PROGRAM = 128


@dataclass(frozen=True)
class Launch:
    """A grid of programs (x, y, z), each `CompiledKernel.threads` wide, and the int32 scalars between the pointers.

    A grid with a 0 in it must not be launched: there is nothing to do, and the driver refuses it.
    """

    grid: tuple[Any, Any, Any]
    scalars: tuple[Any, ...]


def roi_align_launch(attributes: RoIAlignAttributes, shapes: Sequence[Sequence[Any]], channels: int) -> Launch:
    """Return how `MultiLevelRoIAlign` starts: a program per row of cells of each region, and per block of channels.

    Args:
        attributes: the operator's.
        shapes: of the inputs, logical: four maps (B, C, H, W) whatever their layout, and rois (R, 5).
        channels: C, an int: kernels are compiled for it.

    Returns:
        grid (R·S, blocks of channels, 1); scalars: B, then H and W of each map.
    """
    maps, (regions, _) = shapes[:LEVELS], shapes[LEVELS]
    sides = [side for _, _, height, width in maps for side in (height, width)]
    blocks = -(-channels // CHANNELS_OF_A_PROGRAM)
    return Launch(grid=(regions * attributes.output_size, blocks, 1), scalars=(maps[0][0], *sides))


def nms_launch(shapes: Sequence[Sequence[Any]]) -> Launch:
    """Return how `BatchedNMS` starts: a program per image; the scalar is M.

    Args:
        shapes: of boxes (B, M, 4), scores (B, M) and groups (B, M).
    """
    batch, candidates = shapes[1]
    return Launch(grid=(batch, 1, 1), scalars=(candidates,))
