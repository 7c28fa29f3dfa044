"""The RPN with its last two convolutions as one, which reads each map once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from resnest_export.models.rpn import RPN


class MergedRPN(RPN):
    """The same as `rpn`, whose layers it takes over."""

    def __init__(self, rpn: RPN) -> None:
        super().__init__(rpn.settings, rpn.test, rpn.rpn_conv.in_channels)
        self.rpn_conv = rpn.rpn_conv
        self.rpn_cls_reg = _joined(rpn.rpn_cls, rpn.rpn_reg)
        self.sizes = [rpn.rpn_cls.out_channels, rpn.rpn_reg.out_channels]
        del self.rpn_cls, self.rpn_reg

    def outputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits, deltas = self.rpn_cls_reg(x).split(self.sizes, dim=1)
        return logits, deltas


def _joined(*convs: nn.Conv2d) -> nn.Conv2d:
    """Return the 1×1 convolution whose outputs are those of all of `convs`, one after another."""
    joined = nn.Conv2d(convs[0].in_channels, sum(conv.out_channels for conv in convs), 1)
    joined.weight = nn.Parameter(torch.cat([conv.weight for conv in convs]).detach())
    joined.bias = nn.Parameter(torch.cat([conv.bias for conv in convs if conv.bias is not None]).detach())
    return joined
