"""Components from configuration, in one place."""

from __future__ import annotations

from resnest_export.models.detector import TwoStageDetector
from resnest_export.models.fpn import FPN
from resnest_export.models.heads import FCNMaskHead, Shared4Conv1FCBBoxHead
from resnest_export.models.resnest import ResNeSt
from resnest_export.models.roi_heads import BOX_ROI_SIZE, CASCADE_STDS, CascadeRoIHead, RoIHead
from resnest_export.models.rpn import RPN
from resnest_export.models.zoo import DetectorConfig


def build(config: DetectorConfig) -> TwoStageDetector:
    """Build a detector with untrained weights, in evaluation mode."""

    def bbox_head() -> Shared4Conv1FCBBoxHead:
        return Shared4Conv1FCBBoxHead(
            config.channels, config.fc_channels, BOX_ROI_SIZE, config.num_classes, class_agnostic=config.cascade
        )

    def mask_head() -> FCNMaskHead:
        return FCNMaskHead(config.channels, config.num_classes)

    roi_head: RoIHead | CascadeRoIHead
    if config.cascade:
        stages = range(len(CASCADE_STDS))
        roi_head = CascadeRoIHead([bbox_head() for _ in stages], [mask_head() for _ in stages if config.masks])
    else:
        roi_head = RoIHead(bbox_head(), mask_head() if config.masks else None)
    backbone = ResNeSt(config.blocks, config.stem_channels, config.base_channels)
    return TwoStageDetector(
        backbone=backbone,
        neck=FPN(backbone.out_channels, config.channels),
        rpn_head=RPN(config.channels, config.anchor_scale, config.max_proposals),
        roi_head=roi_head,
        max_detections=config.max_detections,
    ).eval()
