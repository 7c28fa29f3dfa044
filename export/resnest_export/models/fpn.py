"""Feature Pyramid Network (Lin et al. 2017, arXiv:1612.03144) without norm or ReLU, and perhaps P6 on top."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from resnest_export.mmdet_config.settings import NeckSettings
from resnest_export.models.layers import ConvModule


class FPN(nn.Module):
    """The backbone's C2…C5 to P2…P5 or P6, all of the same width.

    Args:
        in_channels: of C2…C5.
        settings: width and number of levels.
        doubles: whether each level has exactly twice the height and width of the next: images are padded to
            multiples of 32.
    """

    def __init__(self, in_channels: Sequence[int], settings: NeckSettings, *, doubles: bool = True) -> None:
        super().__init__()
        channels = settings.out_channels
        self.doubles = doubles
        self.has_p6 = settings.num_outs > len(in_channels)
        self.lateral_convs = nn.ModuleList(ConvModule(c, channels, 1) for c in in_channels)
        self.fpn_convs = nn.ModuleList(ConvModule(channels, channels, 3) for _ in in_channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:  # 4 × (B, C_l, H_l, W_l) -> 4 or 5 × (B, C, H_l, W_l)
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, maps, strict=True)]
        for upper in range(len(laterals) - 1, 0, -1):
            lower = laterals[upper - 1]
            if self.doubles:
                upsampled = F.interpolate(laterals[upper], scale_factor=2.0, mode="nearest")
            else:
                upsampled = F.interpolate(laterals[upper], size=lower.shape[2:], mode="nearest")
            laterals[upper - 1] = lower + upsampled
        pyramid = [conv(x) for conv, x in zip(self.fpn_convs, laterals, strict=True)]
        return [*pyramid, F.max_pool2d(pyramid[-1], kernel_size=1, stride=2)] if self.has_p6 else pyramid
