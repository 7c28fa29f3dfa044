"""Winograd convolutions F(4×4, 3×3) as matrix products: a quarter to a third of the multiplications.

Lavin & Gray 2016, arXiv:1509.09308: a tile of 6×6 inputs and the 3×3 weights are transformed, multiplied elementwise,
and transformed back into 4×4 outputs. A transform is a product with a constant matrix along rows and one along columns,
and the elementwise multiplications of all tiles and channels are 36 large matrix products, which CPUs compute
efficiently. The runtimes don't apply this transformation themselves.

Two forms: the maps of regions are small squares of a fixed size, whose tiles are transformed together; the maps of the
pyramid are large and of any size, and are cut into overlapping tiles.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from resnest_export.models.fpn import FPN
from resnest_export.models.heads import ConvFCBBoxHead, FCNMaskHead
from resnest_export.models.layers import ConvModule
from resnest_export.models.rpn import RPN
from resnest_export.onnx_domain import DOMAIN, VERSION
from resnest_export.ops.functions import WINOGRAD_CONV

OUTPUTS, TAPS = 4, 3
POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)
"""Evaluation points, in addition to infinity: the common choice with the smallest rounding errors."""
TILE = OUTPUTS + TAPS - 1
SMALLEST_WIDTH = 128
"""Fewest channels for which Winograd is faster: the transforms' cost is linear in channels, the saving quadratic."""


def use_winograd(model: nn.Module) -> None:
    """Replace, in place, the wide 3×3 convolutions of `model`'s FPN, RPN and heads; batch norms must be folded."""
    for module in model.modules():
        if isinstance(module, ConvFCBBoxHead):
            module.shared_convs = _fewer_multiplications(module.shared_convs, module.roi_size)
        elif isinstance(module, FCNMaskHead):
            module.convs = _fewer_multiplications(module.convs, module.roi_size)
        elif isinstance(module, FPN):
            for level in module.fpn_convs:
                assert isinstance(level, ConvModule)
                if _pays(level.conv):
                    setattr(level, "conv", WinogradConv(level.conv))  # noqa: B010 - another class
        elif isinstance(module, RPN) and _pays(module.rpn_conv):
            setattr(module, "rpn_conv", WinogradConv(module.rpn_conv))  # noqa: B010


def _pays(conv: nn.Conv2d) -> bool:
    return min(conv.in_channels, conv.out_channels) >= SMALLEST_WIDTH


def _fewer_multiplications(modules: nn.ModuleList, map_size: int) -> nn.ModuleList:
    convs = [module for module in modules if isinstance(module, ConvModule)]
    return nn.ModuleList([WinogradConvs(convs, map_size)]) if convs and _pays(convs[0].conv) else modules


class WinogradConv(nn.Module):
    """A 3×3 convolution, padded by 1, of maps of any size: in a file, the function `WinogradConv`, inlined.

    The algorithm is in that function: traced from PyTorch, its steps on unknown sizes took longer to export than
    the rest of the detector.
    """

    into: Tensor
    back: Tensor
    of_weights: Tensor
    identity: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        assert conv.kernel_size == (TAPS, TAPS) and conv.stride == (1, 1) and conv.groups == 1
        self.conv = conv
        into, back, weights = _of_a_tile()
        for name, matrix in (("into", into), ("back", back), ("of_weights", _of_both_dimensions(weights))):
            self.register_buffer(name, torch.from_numpy(matrix).float(), persistent=False)
        self.register_buffer("identity", torch.ones(conv.out_channels, 1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H, W)
        conv = self.conv
        if not torch.compiler.is_exporting():
            convolved: Tensor = conv(x)
            return convolved
        assert conv.bias is not None
        weights = transformed(conv, self.of_weights)
        channels = conv.out_channels
        return torch.onnx.ops.symbolic(
            f"{DOMAIN}::{WINOGRAD_CONV}",
            (x, weights, self.identity, conv.bias, self.into, self.back),
            {"channels": channels},
            dtype=x.dtype,
            shape=(x.shape[0], channels, x.shape[2], x.shape[3]),
            version=VERSION,
        )


def transformed(conv: nn.Conv2d, of_weights: Tensor) -> Tensor:
    """Return the weights (C', C, 3, 3) of a convolution as matrices (36, C, C') by their transform (9, 36)."""
    weights = conv.weight.flatten(0, 1).flatten(1) @ of_weights
    return torch.unflatten(weights, 0, (-1, conv.in_channels)).permute(2, 1, 0)


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
            tiles = along_both(self.into, x.flatten(2))  # (6·T, 6·T, R·C)
            # Axes: Winograd coordinates of rows and columns, then tile row and tile column.
            tiles = tiles.reshape(TILE, count, TILE, count, -1).transpose(1, 2).reshape(TILE**2, -1, channels)
            products = torch.bmm(tiles, transformed(conv, self.of_weights))  # (36, T²·R, C)
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
        _of_both_dimensions(weights),
    )


def _of_both_dimensions(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the transform (9, 36) of flattened 3×3 weights by that of one dimension, G (6, 3)."""
    both: NDArray[np.float64] = np.einsum("ak,bl->klab", weights, weights).reshape(TAPS**2, TILE**2)
    return both


def _of_a_tile() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the matrices of one dimension by the Cook–Toom algorithm: Bᵀ (6, 6), Aᵀ (4, 6), G (6, 3)."""

    def powers(count: int) -> NDArray[np.float64]:
        infinity = np.eye(count)[-1:]
        return np.concatenate([np.vander(POINTS, count, increasing=True), infinity])

    inputs, weights = np.linalg.inv(powers(TILE)).T, powers(TAPS)
    # Scale factors cancel between inputs and weights; balanced magnitudes minimise rounding errors.
    scale = np.sqrt(np.linalg.norm(inputs, axis=1) / np.linalg.norm(weights, axis=1))[:, None]
    return inputs / scale, powers(OUTPUTS).T, weights * scale
