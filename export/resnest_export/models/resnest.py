"""ResNeSt (Zhang et al. 2020, arXiv:2004.08955) as mmdetection builds it; modules bear its names, its weights fit."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - PyTorch's own name

from resnest_export.mmdet_config.settings import BackboneSettings
from resnest_export.models.layers import sum_of

EXPANSION = 4


class SplitAttention(nn.Module):
    """A 3×3 convolution into `radix` splits, and their sum weighted by a softmax over the splits.

    With a radix of 1 there is one split, weighted by a sigmoid.
    """

    def __init__(
        self, channels: int, radix: int = 2, reduction_factor: int = 4, stride: int = 1, eps: float = 1e-5
    ) -> None:
        super().__init__()
        hidden = max(channels * radix // reduction_factor, 32)
        self.radix = radix
        self.conv = nn.Conv2d(channels, channels * radix, 3, stride, padding=1, groups=radix, bias=False)
        self.bn0 = nn.BatchNorm2d(channels * radix, eps)
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.bn1 = nn.BatchNorm2d(hidden, eps)
        self.fc2 = nn.Conv2d(hidden, channels * radix, 1)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        x = F.relu(self.bn0(self.conv(x)))
        # The mean of the sum is the sum of the means: no pass over the full maps for the sum.
        weights = self.weights(sum_of(x.mean((2, 3), keepdim=True).chunk(self.radix, 1)))
        # Not as a product of five dimensions: runtimes change the layout of the full maps for one.
        return sum_of([split * weight for split, weight in zip(x.chunk(self.radix, 1), weights, strict=True)])

    def weights(self, pooled: Tensor) -> list[Tensor]:
        """Return the weights of the splits, each (B, C, 1, 1), for the mean (B, C, 1, 1) of their sum."""
        logits = self.fc2(F.relu(self.bn1(self.fc1(pooled)))).chunk(self.radix, 1)
        if self.radix == 1:
            return [logits[0].sigmoid()]
        if self.radix == 2:  # a softmax of two is a sigmoid of their difference
            first = (logits[0] - logits[1]).sigmoid()
            return [first, 1 - first]
        return list(torch.stack(logits).softmax(0).unbind())


class Bottleneck(nn.Module):
    """1×1, split attention, 1×1, and the shortcut."""

    def __init__(self, settings: BackboneSettings, in_channels: int, width: int, stride: int, project: bool) -> None:
        super().__init__()
        out_channels = width * EXPANSION
        eps = settings.norm.eps
        pools = settings.avg_down_stride and stride > 1
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width, eps)
        self.conv2 = SplitAttention(width, settings.radix, settings.reduction_factor, 1 if pools else stride, eps)
        # Only where the stride is 2: timm also pools in a stage's first block, and weights can't tell the two apart.
        self.pool = nn.AvgPool2d(3, stride, padding=1) if pools else nn.Identity()
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels, eps)
        self.downsample = (
            nn.Sequential(
                nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False) if stride > 1 else nn.Identity(),
                nn.Conv2d(in_channels, out_channels, 1, bias=False),
                nn.BatchNorm2d(out_channels, eps),
            )
            if project
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, 4·width, H/stride, W/stride)
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.pool(self.conv2(y))
        y = self.bn3(self.conv3(y))
        return F.relu(y + self.downsample(x))


class ResNeSt(nn.Module):
    """The backbone: an image to the maps C2…C5 of strides 4, 8, 16, 32."""

    def __init__(self, settings: BackboneSettings) -> None:
        super().__init__()
        stem_channels, eps = settings.stem_channels, settings.norm.eps
        half = stem_channels // 2
        self.stem = nn.Sequential(
            nn.Conv2d(3, half, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(half, eps),
            nn.ReLU(),
            nn.Conv2d(half, half, 3, padding=1, bias=False),
            nn.BatchNorm2d(half, eps),
            nn.ReLU(),
            nn.Conv2d(half, stem_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(stem_channels, eps),
            nn.ReLU(),
        )
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = stem_channels
        self.out_channels: list[int] = []
        for stage, count in enumerate(settings.blocks):
            width = settings.base_channels * 2**stage
            stride = 1 if stage == 0 else 2
            layer = nn.Sequential()
            changes = stride > 1 or channels != width * EXPANSION
            for block in range(count):
                layer.append(
                    Bottleneck(settings, channels, width, stride if block == 0 else 1, project=block == 0 and changes)
                )
                channels = width * EXPANSION
            self.add_module(f"layer{stage + 1}", layer)
            self.out_channels.append(channels)

    def forward(self, images: Tensor) -> list[Tensor]:  # (B, 3, H, W) -> 4 × (B, C, H/s, W/s)
        x = self.maxpool(self.stem(images))
        maps: list[Tensor] = []
        for stage in range(len(self.out_channels)):
            x = self.get_submodule(f"layer{stage + 1}")(x)
            maps.append(x)
        return maps
