"""Mixed precision as explicit casts in the network: which parts of a detector are 16-bit and which stay in float32.

The TensorRT network is strongly typed, so each layer runs in the type of its inputs. The convolutions and the layers
between them, which take nearly all of the time, run in 16 bits. In float32 stay

- the layers that decide: the last layers of each head, softmax, sigmoid, decoding, thresholds and NMS. 16 bits can't
  resolve scores near 1, and coordinates up to 1333 need more than the 11-bit significand of float16 or the 8 bits of
  bfloat16;
- split attention's means, but for their first step over few pixels (`plain_convolutions.mean_of_map`), its two small
  layers and its softmax: means of up to 90,000 values, which scale whole channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from resnest_export.models.detector import TwoStageDetector
from resnest_export.models.heads import ConvFCBBoxHead, FCNMaskHead
from resnest_export.models.resnest import SplitAttention
from resnest_export.tensorrt.merged_rpn import MergedRPN

DECIDING = {MergedRPN: ("rpn_cls_reg",), ConvFCBBoxHead: ("fc_cls", "fc_reg"), FCNMaskHead: ("conv_logits",)}
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


def use_half(detector: TwoStageDetector, dtype: torch.dtype) -> None:
    """Convert, in place, a detector of `graph.fixed_size_network` to float16 or bfloat16 where accuracy permits.

    Images are float32; the feature pyramid is of `dtype`; boxes, scores and masks are float32.
    """
    detector.to(dtype)
    for module in list(detector.modules()):
        for kind, names in DECIDING.items():
            if isinstance(module, kind):
                for name in names:
                    _keep_float32(module, name)
        if isinstance(module, SplitAttention):
            for small in (module.fc1, module.bn1, module.fc2):
                small.float()
    setattr(detector.backbone, "stem", Typed(detector.backbone.stem, dtype, dtype))  # noqa: B010 - another class


def _keep_float32(module: nn.Module, name: str) -> None:
    layer = getattr(module, name).float()
    if isinstance(module, FCNMaskHead):
        # The mask head multiplies with rows of its last layer's weights itself: the cast to float32 follows upsampling.
        # TensorRT-RTX doesn't support transposed convolutions in bfloat16.
        dtype = torch.float16 if module.upsample.weight.dtype is torch.float16 else torch.float32
        setattr(module, "upsample", Typed(module.upsample.to(dtype), dtype, torch.float32))  # noqa: B010
    else:
        setattr(module, name, Typed(layer, torch.float32, torch.float32))
