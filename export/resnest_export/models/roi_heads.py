"""The second stage: from proposals to classified boxes and their masks, in one step or in a cascade."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from resnest_export.mmdet_config.settings import RoIExtractorSettings, RoIHeadSettings
from resnest_export.models import boxes
from resnest_export.models.heads import ConvFCBBoxHead, FCNMaskHead
from resnest_export.models.layers import sum_of
from resnest_export.ops import multi_level_roi_align

LEVELS = 4


def pool(pyramid: Sequence[Tensor], rois: Tensor, settings: RoIExtractorSettings) -> Tensor:
    """Return the features (R, C, S, S) of `rois` (R, 5): image index, x1 y1 x2 y2 in resized pixels."""
    # The operator takes four maps: of fewer the last stands for those that are missing, as levels are clamped to it.
    last = len(settings.strides) - 1
    levels = [min(level, last) for level in range(LEVELS)]
    return multi_level_roi_align(
        [pyramid[level] for level in levels],
        rois,
        output_size=settings.output_size,
        strides=[settings.strides[level] for level in levels],
        finest_scale=settings.finest_scale,
        sampling_ratio=settings.sampling_ratio,
    )


class RoIHead(nn.Module):
    """One box head, and perhaps one mask head."""

    def __init__(self, settings: RoIHeadSettings, bbox_head: ConvFCBBoxHead, mask_head: FCNMaskHead | None) -> None:
        super().__init__()
        self.settings = settings
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
        logits, deltas = self.bbox_head(pool(pyramid, rois, self.settings.bbox_roi_extractors[0]))
        coder = self.settings.bbox_heads[0].coder
        refined = boxes.decode_and_clip(rois[:, None, 1:], deltas, coder, sizes_hw)
        return logits.softmax(1)[:, :-1], refined

    def masks(self, pyramid: Sequence[Tensor], rois: Tensor, labels: Tensor) -> Tensor:
        """Return the probability (R, S, S) of the class `labels` (R) over each of `rois` (R, 5)."""
        pooled = pool(pyramid, rois, self.settings.mask_roi_extractors[0])
        masks: Tensor = self.mask_head(pooled, labels)
        return masks


class CascadeRoIHead(nn.Module):
    """Box heads, each refining the boxes of the one before (Cai & Vasconcelos 2018, arXiv:1712.00726)."""

    def __init__(
        self, settings: RoIHeadSettings, bbox_heads: Sequence[ConvFCBBoxHead], mask_heads: Sequence[FCNMaskHead]
    ) -> None:
        super().__init__()
        self.settings = settings
        self.bbox_head = nn.ModuleList(bbox_heads)
        if mask_heads:
            self.mask_head = nn.ModuleList(mask_heads)

    def boxes(self, pyramid: Sequence[Tensor], rois: Tensor, sizes_hw: Tensor) -> tuple[Tensor, Tensor]:
        """See `RoIHead.boxes`; the logits of the stages are averaged, the boxes are the last stage's.

        Between stages a head with boxes per class refines a region by the box of its best class.
        """
        stage_logits: list[Tensor] = []
        last = len(self.bbox_head) - 1
        for stage, head in enumerate(self.bbox_head):
            settings = self.settings.bbox_heads[stage]
            logits, deltas = head(pool(pyramid, rois, self.settings.bbox_roi_extractors[stage]))
            stage_logits.append(logits)
            if settings.class_agnostic:
                regions, deltas = rois[:, 1:], deltas.squeeze(1)
            elif stage == last:
                refined = boxes.decode_and_clip(rois[:, None, 1:], deltas, settings.coder, sizes_hw)
                return self._mean(stage_logits), refined
            else:
                best = logits[:, :-1].argmax(1)  # (R,)
                regions, deltas = rois[:, 1:], deltas.gather(1, best[:, None, None].expand(-1, 1, 4)).squeeze(1)
            refined = boxes.decode_and_clip(regions, deltas, settings.coder, sizes_hw)
            rois = torch.cat([rois[:, :1], refined], dim=1)
        return self._mean(stage_logits), rois[:, None, 1:]

    def masks(self, pyramid: Sequence[Tensor], rois: Tensor, labels: Tensor) -> Tensor:
        """See `RoIHead.masks`; the probabilities of the heads are averaged."""
        extractors = self.settings.mask_roi_extractors
        pooled = {extractor: pool(pyramid, rois, extractor) for extractor in dict.fromkeys(extractors)}
        masks: list[Tensor] = [
            head(pooled[extractor], labels) for head, extractor in zip(self.mask_head, extractors, strict=True)
        ]
        return sum_of(masks) / len(masks)

    @staticmethod
    def _mean(stage_logits: Sequence[Tensor]) -> Tensor:
        mean = sum_of(stage_logits) / len(stage_logits)
        return mean.softmax(1)[:, :-1]
