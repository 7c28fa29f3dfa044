"""Winograd convolutions F(4×4, 3×3) as matrix products, for the heads: a third of the multiplications.

Lavin & Gray 2016, arXiv:1509.09308: a tile of 6×6 inputs and the 3×3 weights are transformed, multiplied elementwise,
and transformed back into 4×4 outputs. The maps of regions are small squares, so a transform is a product with a
constant matrix along rows and one along columns, and the elementwise multiplications of all regions and channels are 36
large matrix products, which CPUs compute efficiently. The runtimes don't apply this transformation themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from resnest_export.models.heads import ConvFCBBoxHead, FCNMaskHead
from resnest_export.models.layers import ConvModule

OUTPUTS, TAPS = 4, 3
POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)
"""Evaluation points, in addition to infinity: the common choice with the smallest rounding errors."""
TILE = OUTPUTS + TAPS - 1
SMALLEST_WIDTH = 128
"""Fewest channels for which Winograd is faster: the transforms' cost is linear in channels, the saving quadratic."""


def use_winograd(model: nn.Module) -> None:
    """Replace, in place, the convolutions of wide box and mask heads of `model`; their batch norms must be folded."""
    for module in model.modules():
        if isinstance(module, ConvFCBBoxHead):
            module.shared_convs = _fewer_multiplications(module.shared_convs, module.roi_size)
        elif isinstance(module, FCNMaskHead):
            module.convs = _fewer_multiplications(module.convs, module.roi_size)


def _fewer_multiplications(modules: nn.ModuleList, map_size: int) -> nn.ModuleList:
    convs = [module for module in modules if isinstance(module, ConvModule)]
    pays = convs and convs[0].conv.out_channels >= SMALLEST_WIDTH
    return nn.ModuleList([WinogradConvs(convs, map_size)]) if pays else modules


class WinogradConvs(nn.Module):
    """A sequence of 3×3 convolutions, each with a ReLU, on square maps of a fixed size."""

    into: Tensor
    back: Tensor
    of_weights: Tensor

    def __init__(self, convs: Sequence[ConvModule], map_size: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(module.conv for module in convs)
        for name, matrix in zip(("into", "back", "of_weights"), transforms(map_size), strict=True):
            self.register_buffer(name, torch.from_numpy(matrix).float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:  # (R, C, S, S) -> (R, C, S, S)
        count = len(self.into) // TILE  # T, tiles along a side
        x = x.permute(2, 3, 0, 1)  # (S, S, R, C): transforms are products from the left
        for conv in self.convs:
            assert isinstance(conv, nn.Conv2d) and conv.bias is not None
            channels = conv.in_channels
            weights = torch.unflatten(conv.weight.flatten(0, 1).flatten(1) @ self.of_weights, 0, (-1, channels))
            tiles = along_both(self.into, x.flatten(2))  # (6·T, 6·T, R·C)
            # Axes: Winograd coordinates of rows and columns, then tile row and tile column.
            tiles = tiles.reshape(TILE, count, TILE, count, -1).transpose(1, 2).reshape(TILE**2, -1, channels)
            products = torch.bmm(tiles, weights.permute(2, 1, 0))  # (36, T²·R, C)
            products = products.reshape(TILE, TILE, count, count, -1).transpose(1, 2)
            x = along_both(self.back, products.reshape(TILE * count, TILE * count, -1))  # (S, S, R·C)
            x = (torch.unflatten(x, 2, (-1, conv.out_channels)) + conv.bias).relu()
        return x.permute(2, 3, 0, 1)


def along_both(matrix: Tensor, x: Tensor) -> Tensor:
    """Return the products (N, N, K) of `matrix` (N, M) with the rows, and with the columns, of `x` (M, M, K)."""
    rows = torch.unflatten(matrix @ x.flatten(1), 1, (matrix.shape[1], -1))  # (N, M, K)
    return torch.bmm(matrix.expand(len(matrix), -1, -1), rows)


def transforms(map_size: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the transform matrices for maps of side S = `map_size`, zero-padded by 1, with T tiles per side.

    They are: inputs (6·T, S), products to outputs (S, 6·T), and weights in both dimensions (9, 36).
    """
    inputs, outputs, weights = _of_a_tile()
    count = -(-map_size // OUTPUTS)
    into = np.zeros((TILE, count, map_size))
    back = np.zeros((map_size, TILE, count))
    for tile in range(count):
        first = OUTPUTS * tile
        for place in range(max(first - 1, 0), min(first - 1 + TILE, map_size)):
            into[:, tile, place] = inputs[:, place - first + 1]
        for place in range(first, min(first + OUTPUTS, map_size)):
            back[place, :, tile] = outputs[place - first]
    return (
        into.reshape(-1, map_size),
        back.reshape(map_size, -1),
        np.einsum("ak,bl->klab", weights, weights).reshape(TAPS**2, TILE**2),
    )


def _of_a_tile() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the matrices of one dimension by the Cook–Toom algorithm: Bᵀ (6, 6), Aᵀ (4, 6), G (6, 3)."""

    def powers(count: int) -> NDArray[np.float64]:
        infinity = np.eye(count)[-1:]
        return np.concatenate([np.vander(POINTS, count, increasing=True), infinity])

    inputs, weights = np.linalg.inv(powers(TILE)).T, powers(TAPS)
    # Scale factors cancel between inputs and weights; balanced magnitudes minimise rounding errors.
    scale = np.sqrt(np.linalg.norm(inputs, axis=1) / np.linalg.norm(weights, axis=1))[:, None]
    return inputs / scale, powers(OUTPUTS).T, weights * scale
