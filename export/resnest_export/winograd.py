"""The heads' convolutions with a third of the multiplications: Winograd's F(4×4, 3×3) as matrix products.

Lavin & Gray 2016, arXiv:1509.09308: a tile of 6×6 inputs and the 3×3 weights are transformed, multiplied elementwise,
and transformed back into 4×4 outputs. The maps of regions are small squares, so a transform is a product with a
constant matrix along rows and one along columns, and the elementwise multiplications of all regions and channels are 36
large products: what CPUs are fastest at. No runtime does this by itself.
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
"""Where the polynomials are evaluated, infinity besides: of the usual choices those that round least."""
TILE = OUTPUTS + TAPS - 1
SMALLEST_WIDTH = 128
"""Channels from which it pays: the transforms cost the same per channel whatever the products between them save."""


def use_winograd(model: nn.Module) -> None:
    """Let, in place, the wide box and mask heads of `model` work so; their batch norms are folded."""
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
    """3×3 convolutions one after the other, each with a ReLU, on square maps of a fixed size."""

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
            # A frequency of each side, then a tile of each.
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
    """Return the matrices of a map's side of S = `map_size`, with its border of zeros, and its T tiles.

    They are: of inputs (6·T, S), of products back to outputs (S, 6·T), of weights in both dimensions (9, 36).
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
    """Return the matrices of one dimension by Cook and Toom's method: Bᵀ (6, 6), Aᵀ (4, 6), G (6, 3)."""

    def powers(count: int) -> NDArray[np.float64]:
        infinity = np.eye(count)[-1:]
        return np.concatenate([np.vander(POINTS, count, increasing=True), infinity])

    inputs, weights = np.linalg.inv(powers(TILE)).T, powers(TAPS)
    # What one side is multiplied by the other is divided by: even magnitudes round least.
    scale = np.sqrt(np.linalg.norm(inputs, axis=1) / np.linalg.norm(weights, axis=1))[:, None]
    return inputs / scale, powers(OUTPUTS).T, weights * scale
