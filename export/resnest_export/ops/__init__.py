"""Operators that PyTorch alone hasn't.

Three are custom ones in ONNX, domain `resnest` version 1: each a PyTorch implementation and a function body.
"""

from resnest_export.ops.nms import apart, batched_nms
from resnest_export.ops.roi_align import multi_level_roi_align
from resnest_export.ops.soft_nms import batched_soft_nms
from resnest_export.ops.topk import topk

__all__ = ["apart", "batched_nms", "batched_soft_nms", "multi_level_roi_align", "topk"]
