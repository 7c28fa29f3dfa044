"""Split attention as convolutions without groups, and other forms of the backbone that suit TensorRT.

Grouped convolutions may not build in strongly typed networks of 16 bits and have no fast fp8 kernels. A grouped
convolution of `radix` splits is the same as `radix` plain ones, each of its own part of the input: the 1×1 convolution
before is divided, too, so that no map has to be split.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from resnest_export.models.detector import TwoStageDetector
from resnest_export.models.layers import sum_of
from resnest_export.models.resnest import Bottleneck

STRIDES = (4, 8, 16, 32)
"""Of the backbone's stages. Images for TensorRT are padded to multiples of the last one."""
LARGEST_BLOCK = 4


def use_plain_convolutions(detector: TwoStageDetector) -> None:
    """Replace, in place, the bottlenecks of a detector with folded batch norms."""
    for stage, stride in enumerate(STRIDES, start=1):
        layer = detector.backbone.get_submodule(f"layer{stage}")
        for name, block in list(layer.named_children()):
            assert isinstance(block, Bottleneck)
            setattr(layer, name, PlainBottleneck(block, min(STRIDES[-1] // stride, LARGEST_BLOCK)))


class PlainBottleneck(nn.Module):
    """The same as a bottleneck with folded batch norms, in plain convolutions.

    The weights of the splits are computed in float32, whatever the type of the maps.

    Args:
        bottleneck: it is taken apart.
        block: a divisor of the height and width of the maps, see `mean_of_map`.
    """

    def __init__(self, bottleneck: Bottleneck, block: int) -> None:
        super().__init__()
        self.block = block
        self.attention = bottleneck.conv2
        self.conv1 = nn.ModuleList(_parts(bottleneck.conv1, self.attention.radix))
        self.conv2 = nn.ModuleList(_parts(self.attention.conv, self.attention.radix))
        del self.attention.conv, self.attention.bn0
        self.pool = bottleneck.pool
        self.conv3 = bottleneck.conv3
        self.downsample = bottleneck.downsample
        if isinstance(self.downsample, nn.Sequential) and isinstance(self.downsample[0], nn.AvgPool2d):
            # Maps have even sides here, so nothing is rounded up and no window reaches beyond a map.
            self.downsample[0] = nn.AvgPool2d(self.downsample[0].kernel_size)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        splits = [F.relu(conv2(F.relu(conv1(x)))) for conv1, conv2 in zip(self.conv1, self.conv2, strict=True)]
        weights = self.attention.weights(sum_of([mean_of_map(split, self.block) for split in splits]))
        y = sum_of([split * weight.to(split.dtype) for split, weight in zip(splits, weights, strict=True)])
        return F.relu(self.conv3(self.pool(y)) + self.downsample(x))


def mean_of_map(x: Tensor, block: int) -> Tensor:
    """Return the mean (B, C, 1, 1), in float32, of a map (B, C, H, W) of any type.

    The map is read in its own type: first the means of blocks of `block`² pixels, or of rows if `block` is 1, then
    their mean in float32. NVIDIA documents no type for the sums inside TensorRT's pooling, and TensorRT itself warns
    that reductions in float16 may overflow; so few numbers are summed in 16 bits that neither overflow nor rounding
    matters.

    Args:
        x: the map.
        block: divides H and W.
    """
    x = F.avg_pool2d(x, block) if block > 1 else x.mean(3, keepdim=True)
    return x.to(torch.float32).mean((2, 3), keepdim=True)


def _parts(conv: nn.Conv2d, count: int) -> list[nn.Conv2d]:
    """Return `count` convolutions without groups, each of which computes an equal part of the outputs of `conv`.

    Of a convolution with groups a part reads its own group's inputs only.
    """
    assert conv.groups in (1, count) and conv.bias is not None
    made = []
    for weight, bias in zip(conv.weight.chunk(count), conv.bias.chunk(count), strict=True):
        part = copy.deepcopy(conv)
        part.groups, part.out_channels, part.in_channels = 1, *weight.shape[:2]
        part.weight, part.bias = nn.Parameter(weight.detach().clone()), nn.Parameter(bias.detach().clone())
        made.append(part)
    return made
