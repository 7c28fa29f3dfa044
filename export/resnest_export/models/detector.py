"""A two-stage detector: normalised images in, boxes and masks in resized pixels out."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from resnest_export.mmdet_config.settings import RCNNTestSettings
from resnest_export.models.boxes import clip
from resnest_export.models.fpn import FPN
from resnest_export.models.resnest import ResNeSt
from resnest_export.models.roi_heads import CascadeRoIHead, RoIHead
from resnest_export.models.rpn import RPN
from resnest_export.ops import batched_nms, batched_soft_nms, topk


class DetectorOutput(NamedTuple):
    """Detections of B images, K rows each, best score first.

    boxes (B, K, 4) in resized pixels; scores (B, K), −inf where there is no detection; labels (B, K);
    masks (B, K, S, S), 0 where there is none, or None for a detector without masks.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor | None


class TwoStageDetector(nn.Module):
    """Backbone, pyramid, proposals, and what the regions hold.

    Args:
        test: thresholds, NMS, and how many detections.
        clips_detections: whether detections may leave the resized image and are clipped to it.
    """

    def __init__(
        self,
        backbone: ResNeSt,
        neck: FPN,
        rpn_head: RPN,
        roi_head: RoIHead | CascadeRoIHead,
        test: RCNNTestSettings,
        *,
        clips_detections: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.rpn_head = rpn_head
        self.roi_head = roi_head
        self.test = test
        self.clips_detections = clips_detections
        self.max_detections = test.max_per_img

    @property
    def has_masks(self) -> bool:
        return hasattr(self.roi_head, "mask_head")

    def forward(
        self, images: Tensor, image_sizes: Tensor, score_thresholds: Tensor, want_masks: Tensor
    ) -> DetectorOutput:
        """Detect objects.

        Args:
            images: float (B, 3, H, W), normalised, 0 in the padding.
            image_sizes: int64 (B, 2), height and width inside the padding.
            score_thresholds: (B, 1), detections at or below it are dropped.
            want_masks: bool (B, 1), where False the image's masks are 0 and cost nothing.
        """
        pyramid = self.neck(self.backbone(images))
        proposals, objectness = self.rpn_head(pyramid, image_sizes)  # (B, P, 4), (B, P)

        rows = occupied_rows(objectness > -torch.inf)
        rois = as_rois(proposals, rows)
        class_scores, class_boxes = self.roi_head.boxes(pyramid, rois, image_sizes[rois[:, 0].long()])
        boxes, scores, labels = self.best(
            spread(class_scores, rows, objectness.shape), spread(class_boxes, rows, objectness.shape), score_thresholds
        )
        if self.clips_detections:
            boxes = clip(boxes, image_sizes[:, None])
        if not self.has_masks:
            return DetectorOutput(boxes, scores, labels, None)

        rows = occupied_rows((scores > -torch.inf) & want_masks)
        masks = self.roi_head.masks(pyramid, as_rois(boxes, rows), labels.flatten()[rows])
        return DetectorOutput(boxes, scores, labels, spread(masks, rows, scores.shape))

    def best(
        self, scores: Tensor, boxes: Tensor, score_thresholds: Tensor, most: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Choose the detections among the classes of the proposals.

        Args:
            scores: (B, P, C).
            boxes: (B, P, C or 1, 4).
            score_thresholds: (B, 1), candidates at or below it are dropped.
            most: how many candidates of an image, the best ones, are looked at; None: all.

        Returns:
            boxes (B, K, 4), scores (B, K), −inf where there is no detection, and labels (B, K).
        """
        classes = scores.shape[2]
        nms = self.test.nms
        is_soft = nms.type == "soft_nms"
        # Soft-NMS's scores depend on all candidates, so a request's own threshold applies to its results.
        lowest = score_thresholds.new_full((1, 1, 1), self.test.score_thr) if is_soft else score_thresholds[..., None]
        scores = scores.masked_fill(scores <= lowest, -torch.inf).flatten(1)  # (B, P·C)
        boxes = boxes.expand(-1, -1, classes, -1).flatten(1, 2)  # (B, P·C, 4)
        places = torch.arange(scores.shape[1], device=scores.device)
        if most is not None:
            scores, places = topk(scores, min(most, scores.shape[1]))
            boxes = boxes.gather(1, places[..., None].expand(-1, -1, 4))
        groups = (places % classes).int().expand_as(scores)
        if nms.class_agnostic:
            groups = torch.zeros_like(groups)
        if is_soft:
            keep, kept_scores = batched_soft_nms(boxes, scores, groups, nms, max_output=self.max_detections)
            above = kept_scores > score_thresholds
            keep = keep.where(above, torch.full_like(keep, -1))
        else:
            keep, _ = batched_nms(
                boxes, scores, groups, iou_threshold=nms.iou_threshold, max_output=self.max_detections
            )  # (B, K)
            kept_scores = None
        index = keep.long().clamp(min=0)
        kept_boxes = boxes.gather(1, index[..., None].expand(-1, -1, 4))
        labels = (index if most is None else places.gather(1, index)) % classes
        if kept_scores is None:
            kept_scores = scores.gather(1, index)
        return kept_boxes, kept_scores.masked_fill(keep < 0, -torch.inf), labels


def occupied_rows(occupied: Tensor) -> Tensor:
    """Return the flat positions (R,) of the rows of a padded table (B, N) that hold something."""
    return occupied.flatten().nonzero().squeeze(1)


def as_rois(boxes: Tensor, rows: Tensor) -> Tensor:
    """Return the boxes (B, N, 4) at flat positions `rows` (R,) as regions (R, 5): image index, x1 y1 x2 y2."""
    image = (rows // boxes.shape[1]).to(boxes.dtype)
    return torch.cat([image[:, None], boxes.flatten(0, 1)[rows]], dim=1)


def spread(values: Tensor, rows: Tensor, shape: torch.Size) -> Tensor:
    """Put values (R, …) at flat positions `rows` (R,) of a table of `shape` (B, N), 0 elsewhere: (B, N, …)."""
    table = values.new_zeros((shape[0] * shape[1], *values.shape[1:]))
    return torch.unflatten(table.index_put((rows,), values), 0, (-1, shape[1]))
