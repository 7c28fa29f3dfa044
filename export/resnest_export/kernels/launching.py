"""Grid and scalar arguments of each kernel's launch.

A kernel's parameters are, in this order: pointers to the inputs, the int32 scalars of its `Launch`, pointers to the
outputs. TensorRT's ahead-of-time plugins require this order; launches through the CUDA driver use it too. Sizes may be
ints or TensorRT's symbolic expressions: the rules only multiply them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from resnest_export.kernels.contracts import LEVELS, RoIAlignAttributes

# A power of two, as the Triton language requires. 8 cells × 128 channels are 8 sums for each of 128 threads.
CHANNELS_OF_A_PROGRAM = 128


@dataclass(frozen=True)
class Launch:
    """Grid (x, y, z) of programs with `CompiledKernel.threads` threads each, and the int32 scalar arguments.

    A grid that contains a 0 must not be launched: there is no work, and the driver rejects it.
    """

    grid: tuple[Any, Any, Any]
    scalars: tuple[Any, ...]


def roi_align_launch(attributes: RoIAlignAttributes, shapes: Sequence[Sequence[Any]], channels: int) -> Launch:
    """Return the launch of `MultiLevelRoIAlign`: one program per row of cells of a region and block of channels.

    Args:
        attributes: the operator's attributes.
        shapes: logical shapes of the inputs: four maps (B, C, H, W) for either layout, and rois (R, 5).
        channels: C, always an int: it is a compile-time constant.

    Returns:
        grid (R·S, blocks of channels, 1); scalars: B, then H and W of each map.
    """
    maps, (regions, _) = shapes[:LEVELS], shapes[LEVELS]
    sides = [side for _, _, height, width in maps for side in (height, width)]
    blocks = -(-channels // CHANNELS_OF_A_PROGRAM)
    return Launch(grid=(regions * attributes.output_size, blocks, 1), scalars=(maps[0][0], *sides))


def nms_launch(shapes: Sequence[Sequence[Any]]) -> Launch:
    """Return the launch of `BatchedNMS`: one program per image; the scalar is M.

    Args:
        shapes: shapes of boxes (B, M, 4), scores (B, M) and groups (B, M).
    """
    batch, candidates = shapes[1]
    return Launch(grid=(batch, 1, 1), scalars=(candidates,))
