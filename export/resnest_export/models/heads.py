"""The heads that look at one region: the box head and the mask head (He et al. 2017, arXiv:1703.06870)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from resnest_export.mmdet_config.settings import BoxHeadSettings, MaskHeadSettings
from resnest_export.models.layers import conv_stack


class ConvFCBBoxHead(nn.Module):
    """Convolutions and linear layers, shared by classification and regression.

    Args:
        settings: numbers of layers and widths.
        channels: of the pyramid.
        roi_size: side of the regions' maps.
        num_classes: without the background.
    """

    def __init__(self, settings: BoxHeadSettings, channels: int, roi_size: int, num_classes: int) -> None:
        super().__init__()
        self.roi_size = roi_size
        convs = settings.num_shared_convs
        features = (settings.conv_out_channels if convs else channels) * roi_size**2
        widths = [features, *[settings.fc_out_channels] * settings.num_shared_fcs]
        self.fc_cls = nn.Linear(widths[-1], num_classes + 1)
        self.fc_reg = nn.Linear(widths[-1], 4 if settings.class_agnostic else 4 * num_classes)
        self.shared_convs = conv_stack(channels, settings.conv_out_channels, convs, settings.norm)
        self.shared_fcs = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return class logits (R, classes + 1), background last, and deltas (R, classes or 1, 4), of x (R, C, S, S)."""
        for conv in self.shared_convs:
            x = conv(x)
        x = x.flatten(1)
        for fc in self.shared_fcs:
            x = F.relu(fc(x))
        return self.fc_cls(x), torch.unflatten(self.fc_reg(x), 1, (-1, 4))


class FCNMaskHead(nn.Module):
    """Convolutions, a transposed convolution that raises the resolution, and a map per class or one for all.

    Args:
        settings: number of layers, widths, and the factor of the resolution.
        channels: of the pyramid.
        roi_size: side of the regions' maps.
        num_classes: without the background.
    """

    def __init__(self, settings: MaskHeadSettings, channels: int, roi_size: int, num_classes: int) -> None:
        super().__init__()
        self.roi_size = roi_size
        self.class_agnostic = settings.class_agnostic
        width, factor = settings.conv_out_channels, settings.upsample_factor
        self.convs = conv_stack(channels, width, settings.num_convs, settings.norm)
        self.upsample = nn.ConvTranspose2d(width if settings.num_convs else channels, width, factor, stride=factor)
        self.conv_logits = nn.Conv2d(width, 1 if settings.class_agnostic else num_classes, 1)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Return the probability maps (R, S', S') of the classes `labels` (R), of x (R, C, S, S)."""
        for conv in self.convs:
            x = conv(x)
        x = F.relu(self.upsample(x))  # (R, C, S', S')
        # The predicted class's map only: its row of the 1×1 convolution, as one small product per region.
        row = torch.zeros_like(labels) if self.class_agnostic else labels
        weight = self.conv_logits.weight.flatten(1)[row]  # (R, C)
        bias = self.conv_logits.bias[row]  # type: ignore[index]  # (R,)
        logits = torch.bmm(weight[:, None], x.flatten(2)).squeeze(1) + bias[:, None]  # (R, S'·S')
        return torch.unflatten(logits.sigmoid(), 1, x.shape[2:])
