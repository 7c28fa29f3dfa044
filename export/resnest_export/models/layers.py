"""The one block that neck and heads share."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class ConvModule(nn.Module):
    """A convolution that keeps height and width, alone or with batch norm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, norm_relu: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=not norm_relu)
        self.norm_relu = norm_relu
        if norm_relu:
            self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return F.relu(self.bn(x)) if self.norm_relu else x
