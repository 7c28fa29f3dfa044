"""16-bit parts of a detector, and those that stay in float32, as casts in the network: TensorRT keeps to them exactly.

A TensorRT network is strongly typed, so each layer runs in the type that its inputs have. In 16 bits are the
convolutions and all that lies between them, where nearly all of the time goes. In float32 stay

- what turns outputs into decisions: the last layers of each head, softmax, sigmoid, decoding, thresholds and NMS.
  Scores near 1 lie closer together than 16 bits can tell, and coordinates up to 1333 need more than the 11 bits of
  float16 or the 8 of bfloat16;
- split attention's pooling and softmax: means of up to 90,000 numbers, which scale whole channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from resnest_export.models.detector import TwoStageDetector
from resnest_export.models.heads import ConvFCBBoxHead, FCNMaskHead
from resnest_export.models.resnest import SplitAttention
from resnest_export.models.rpn import RPN

DECIDING = {RPN: ("rpn_cls", "rpn_reg"), ConvFCBBoxHead: ("fc_cls", "fc_reg"), FCNMaskHead: ("conv_logits",)}
"""The last layers of each head."""


class Typed(nn.Module):
    """Casts the input of `module` to `before`, and its output to `after`."""

    def __init__(self, module: nn.Module, before: torch.dtype, after: torch.dtype) -> None:
        super().__init__()
        self.module = module
        self.before = before
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.module(x.to(self.before))
        return output.to(self.after)


class Float32Attention(nn.Module):
    """Split attention whose weights of the splits are computed in float32."""

    def __init__(self, block: SplitAttention) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        x = F.relu(self.block.bn0(self.block.conv(x)))
        return self.block.weighted_sum(x, self.block.weights(x.float()).to(x.dtype))


def use_half(detector: TwoStageDetector, dtype: torch.dtype) -> None:
    """Let, in place, a detector with folded batch norms compute in float16 or bfloat16 where that costs little.

    It takes float32 images; its pyramid is of `dtype`, its boxes, scores and masks are float32.
    """
    detector.to(dtype)
    for module in list(detector.modules()):
        for kind, names in DECIDING.items():
            if isinstance(module, kind):
                for name in names:
                    _keep_float32(module, name)
        for name, child in list(module.named_children()):
            if isinstance(child, SplitAttention):
                for small in (child.fc1, child.bn1, child.fc2):
                    small.float()
                setattr(module, name, Float32Attention(child))
    setattr(detector.backbone, "stem", Typed(detector.backbone.stem, dtype, dtype))  # noqa: B010 - another class


def _keep_float32(module: nn.Module, name: str) -> None:
    layer = getattr(module, name).float()
    if isinstance(module, FCNMaskHead):
        # It reads single rows of the last layer's weights, and multiplies them itself.
        # TensorRT-RTX builds no transposed convolution in bfloat16.
        dtype = torch.float16 if module.upsample.weight.dtype is torch.float16 else torch.float32
        setattr(module, "upsample", Typed(module.upsample.to(dtype), dtype, torch.float32))  # noqa: B010
    else:
        setattr(module, name, Typed(layer, torch.float32, torch.float32))
