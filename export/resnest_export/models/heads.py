"""What looks at one region: the box head and the mask head (He et al. 2017, arXiv:1703.06870)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from resnest_export.models.layers import ConvModule

CONVS = 4


class Shared4Conv1FCBBoxHead(nn.Module):
    """Four convolutions and a linear layer, shared by classification and regression."""

    def __init__(self, channels: int, fc_channels: int, roi_size: int, num_classes: int, class_agnostic: bool) -> None:
        super().__init__()
        self.fc_cls = nn.Linear(fc_channels, num_classes + 1)
        self.fc_reg = nn.Linear(fc_channels, 4 if class_agnostic else 4 * num_classes)
        self.shared_convs = nn.ModuleList(ConvModule(channels, channels, 3, norm_relu=True) for _ in range(CONVS))
        self.shared_fcs = nn.ModuleList([nn.Linear(channels * roi_size**2, fc_channels)])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return class logits (R, classes + 1), background last, and deltas (R, classes or 1, 4), of x (R, C, 7, 7)."""
        for conv in self.shared_convs:
            x = conv(x)
        x = F.relu(self.shared_fcs[0](x.flatten(1)))
        return self.fc_cls(x), torch.unflatten(self.fc_reg(x), 1, (-1, 4))


class FCNMaskHead(nn.Module):
    """Four convolutions, a doubling of the resolution, and a map per class."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(ConvModule(channels, channels, 3, norm_relu=True) for _ in range(CONVS))
        self.upsample = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.conv_logits = nn.Conv2d(channels, num_classes, 1)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Return the probability maps (R, 28, 28) of the classes `labels` (R), of x (R, C, 14, 14)."""
        for conv in self.convs:
            x = conv(x)
        x = F.relu(self.upsample(x))  # (R, C, 28, 28)
        # The predicted class's map only: its row of the 1×1 convolution, as one small product per region.
        weight = self.conv_logits.weight.flatten(1)[labels]  # (R, C)
        bias = self.conv_logits.bias[labels]  # type: ignore[index]  # (R,)
        logits = torch.bmm(weight[:, None], x.flatten(2)).squeeze(1) + bias[:, None]  # (R, 28·28)
        return torch.unflatten(logits.sigmoid(), 1, x.shape[2:])
