"""The second stage: from proposals to classified boxes and their masks, in one step or in a cascade."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from resnest_export.models import boxes
from resnest_export.models.fpn import STRIDES
from resnest_export.models.heads import FCNMaskHead, Shared4Conv1FCBBoxHead
from resnest_export.ops import multi_level_roi_align

BOX_ROI_SIZE = 7
MASK_ROI_SIZE = 14
STDS = (0.1, 0.1, 0.2, 0.2)
CASCADE_STDS = (STDS, (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067))


def pool(pyramid: Sequence[Tensor], rois: Tensor, size: int) -> Tensor:
    """Return the features (R, C, size, size) of `rois` (R, 5): image index, x1 y1 x2 y2 in resized pixels."""
    levels = STRIDES[:4]  # P6 serves proposals only
    return multi_level_roi_align(pyramid[: len(levels)], rois, output_size=size, strides=levels)


class RoIHead(nn.Module):
    """One box head with a regression per class, and perhaps one mask head."""

    def __init__(self, bbox_head: Shared4Conv1FCBBoxHead, mask_head: FCNMaskHead | None) -> None:
        super().__init__()
        self.bbox_head = bbox_head
        if mask_head:
            self.mask_head = mask_head

    def boxes(self, pyramid: Sequence[Tensor], rois: Tensor, sizes_hw: Tensor) -> tuple[Tensor, Tensor]:
        """Classify and refine regions.

        Args:
            pyramid: P2…P6, each (B, C, H, W).
            rois: (R, 5), image index, x1 y1 x2 y2 in pixels of the resized image.
            sizes_hw: (R, 2), height and width of each region's resized image.

        Returns:
            probabilities (R, classes), without the background's, and boxes (R, classes or 1, 4).
        """
        logits, deltas = self.bbox_head(pool(pyramid, rois, BOX_ROI_SIZE))
        refined = boxes.clip(boxes.decode(rois[:, None, 1:], deltas, STDS), sizes_hw[:, None])
        return logits.softmax(1)[:, :-1], refined

    def masks(self, pyramid: Sequence[Tensor], rois: Tensor, labels: Tensor) -> Tensor:
        """Return the probability (R, 28, 28) of the class `labels` (R) over each of `rois` (R, 5)."""
        masks: Tensor = self.mask_head(pool(pyramid, rois, MASK_ROI_SIZE), labels)
        return masks


class CascadeRoIHead(nn.Module):
    """Three box heads, each refining the boxes of the one before (Cai & Vasconcelos 2018, arXiv:1712.00726)."""

    def __init__(self, bbox_heads: Sequence[Shared4Conv1FCBBoxHead], mask_heads: Sequence[FCNMaskHead]) -> None:
        super().__init__()
        self.bbox_head = nn.ModuleList(bbox_heads)
        if mask_heads:
            self.mask_head = nn.ModuleList(mask_heads)

    def boxes(self, pyramid: Sequence[Tensor], rois: Tensor, sizes_hw: Tensor) -> tuple[Tensor, Tensor]:
        """See `RoIHead.boxes`; the logits of the stages are averaged, the boxes are the last stage's."""
        stage_logits: list[Tensor] = []
        for head, stds in zip(self.bbox_head, CASCADE_STDS, strict=True):
            logits, deltas = head(pool(pyramid, rois, BOX_ROI_SIZE))
            stage_logits.append(logits)
            refined = boxes.clip(boxes.decode(rois[:, 1:], deltas.squeeze(1), stds), sizes_hw)
            rois = torch.cat([rois[:, :1], refined], dim=1)
        mean = sum(stage_logits[1:], stage_logits[0]) / len(stage_logits)
        return mean.softmax(1)[:, :-1], rois[:, None, 1:]

    def masks(self, pyramid: Sequence[Tensor], rois: Tensor, labels: Tensor) -> Tensor:
        """See `RoIHead.masks`; the probabilities of the three heads are averaged."""
        pooled = pool(pyramid, rois, MASK_ROI_SIZE)
        masks: list[Tensor] = [head(pooled, labels) for head in self.mask_head]
        return sum(masks[1:], masks[0]) / len(masks)
