"""Feature Pyramid Network (Lin et al. 2017, arXiv:1612.03144) without norm or ReLU, and P6 on top."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from resnest_export.models.layers import ConvModule

STRIDES = (4, 8, 16, 32, 64)


class FPN(nn.Module):
    """The backbone's C2…C5 to P2…P6, all of the same width."""

    def __init__(self, in_channels: Sequence[int], channels: int) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(ConvModule(c, channels, 1, norm_relu=False) for c in in_channels)
        self.fpn_convs = nn.ModuleList(ConvModule(channels, channels, 3, norm_relu=False) for _ in in_channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:  # 4 × (B, C_l, H_l, W_l) -> 5 × (B, C, H_l, W_l)
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, maps, strict=True)]
        for upper in range(len(laterals) - 1, 0, -1):
            upsampled = F.interpolate(laterals[upper], scale_factor=2.0, mode="nearest")
            laterals[upper - 1] = laterals[upper - 1] + upsampled
        pyramid = [conv(x) for conv, x in zip(self.fpn_convs, laterals, strict=True)]
        return [*pyramid, F.max_pool2d(pyramid[-1], kernel_size=1, stride=2)]
