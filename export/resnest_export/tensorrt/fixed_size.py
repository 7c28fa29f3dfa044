"""A detector without data-dependent sizes, as TensorRT requires: all lists are padded to a fixed length."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from resnest_core.errors import ParameterError
from resnest_export.kernels.contracts import MAX_OUTPUT
from resnest_export.mmdet_config.settings import DetectorSettings
from resnest_export.models.detector import DetectorOutput, TwoStageDetector

MAX_CANDIDATES = 3840
"""Largest K of TensorRT's TopK. Only this many best-scoring (proposal, class) pairs are processed."""


def check_settings(settings: DetectorSettings) -> None:
    """Refuse what a network of fixed sizes, or its plugins, can't do.

    Raises:
        ParameterError: names every such setting.
    """
    problems = []
    if settings.test_rcnn.nms.type == "soft_nms":
        problems.append("soft-NMS")
    for what, count in (
        ("test_rcnn.max_per_img", settings.test_rcnn.max_per_img),
        ("test_rpn.nms_pre", settings.test_rpn.nms_pre),
    ):
        if count > MAX_OUTPUT:
            problems.append(f"{what} {count}, more than the {MAX_OUTPUT} that the NMS plugin returns")
    if settings.test_rpn.max_per_img > MAX_CANDIDATES:
        problems.append(f"test_rpn.max_per_img {settings.test_rpn.max_per_img}, more than TopK's {MAX_CANDIDATES}")
    if settings.preprocessing.size_divisor % 32:
        problems.append(f"padding to multiples of {settings.preprocessing.size_divisor}, which isn't a multiple of 32")
    if problems:
        raise ParameterError(
            f"A TensorRT engine can't have {'; '.join(problems)}: export to onnx, or change these settings."
        )


class FixedSizeDetector(nn.Module):
    """Wraps a detector and returns the same detections, except for the limit MAX_CANDIDATES.

    The box heads process all P rows of proposals and the mask head all K rows of detections, including padding: always
    B·P and B·K regions for B images.

    Attributes:
        most_candidates: largest number of (proposal, class) pairs above the threshold in an image so far; counted in
            PyTorch on the CPU only, not in an exported graph.
    """

    def __init__(self, detector: TwoStageDetector) -> None:
        super().__init__()
        self.detector = detector
        self.most_candidates = 0

    def forward(
        self, images: Tensor, image_sizes: Tensor, score_thresholds: Tensor, want_masks: Tensor
    ) -> DetectorOutput:
        """See `TwoStageDetector.forward`."""
        detector = self.detector
        pyramid = detector.neck(detector.backbone(images))
        proposals, objectness = detector.rpn_head(pyramid, image_sizes)  # (B, P, 4), (B, P)

        count = proposals.shape[1]
        sizes = image_sizes[:, None].expand(-1, count, -1).flatten(0, 1)  # (B·P, 2)
        class_scores, class_boxes = detector.roi_head.boxes(pyramid, all_rois(proposals), sizes)
        class_scores = torch.unflatten(class_scores, 0, (-1, count)).masked_fill(
            objectness[..., None] == -torch.inf, 0
        )  # (B, P, C)
        class_boxes = torch.unflatten(class_boxes, 0, (-1, count))  # (B, P, C or 1, 4)
        if not torch.compiler.is_exporting() and class_scores.is_cpu:  # a CUDA graph can't wait for a number
            candidates = (class_scores > score_thresholds[..., None]).sum((1, 2))
            self.most_candidates = max(self.most_candidates, int(candidates.max()))
        boxes, scores, labels = detector.best(class_scores, class_boxes, score_thresholds, MAX_CANDIDATES)
        if not detector.has_masks:
            return DetectorOutput(boxes, scores, labels, None)

        masks = detector.roi_head.masks(pyramid, all_rois(boxes), labels.flatten())
        masks = torch.unflatten(masks, 0, (-1, boxes.shape[1]))  # (B, K, 28, 28)
        wanted = (scores > -torch.inf) & want_masks  # (B, K)
        return DetectorOutput(boxes, scores, labels, masks.masked_fill(~wanted[..., None, None], 0))


def all_rois(boxes: Tensor) -> Tensor:
    """Return boxes (B, N, 4) as regions (B·N, 5): image index, x1 y1 x2 y2."""
    image = torch.arange(boxes.shape[0], dtype=boxes.dtype, device=boxes.device)
    image = image[:, None, None].expand(-1, boxes.shape[1], -1)  # (B, N, 1)
    return torch.cat([image, boxes], dim=2).flatten(0, 1)
