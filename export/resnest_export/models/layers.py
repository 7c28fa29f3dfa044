"""What backbone, neck and heads share: the convolution block, and a sum of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from resnest_export.mmdet_config.settings import BatchNormSettings


class ConvModule(nn.Module):
    """A convolution that keeps height and width, then batch norm and ReLU, if there are any.

    The convolution has a bias where there is no batch norm.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        norm: BatchNormSettings | None = None,
        relu: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=norm is None)
        self.relu = relu
        if norm is not None:
            self.bn = nn.BatchNorm2d(out_channels, norm.eps)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if hasattr(self, "bn"):
            x = self.bn(x)
        return F.relu(x) if self.relu else x


def conv_stack(in_channels: int, channels: int, count: int, norm: BatchNormSettings | None) -> nn.ModuleList:
    """Return `count` 3×3 convolutions of a head, each with ReLU, one after the other."""
    widths = [in_channels, *[channels] * count]
    return nn.ModuleList(ConvModule(before, after, 3, norm=norm, relu=True) for before, after in pairwise(widths))


def sum_of(terms: Sequence[Tensor]) -> Tensor:
    """Return the sum of one or more tensors of the same shape."""
    return sum(terms[1:], terms[0])
