"""The two custom operators, domain `resnest` version 1: each a PyTorch implementation and its ONNX function body."""

from resnest_export.ops.nms import batched_nms
from resnest_export.ops.roi_align import multi_level_roi_align

__all__ = ["batched_nms", "multi_level_roi_align"]
