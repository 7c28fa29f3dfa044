"""Components from settings, in one place."""

from __future__ import annotations

from resnest_core.errors import ParameterError
from resnest_export.mmdet_config.settings import DetectorSettings
from resnest_export.models.detector import TwoStageDetector
from resnest_export.models.fpn import FPN
from resnest_export.models.heads import ConvFCBBoxHead, FCNMaskHead
from resnest_export.models.resnest import ResNeSt
from resnest_export.models.roi_heads import LEVELS, CascadeRoIHead, RoIHead
from resnest_export.models.rpn import RPN
from resnest_export.models.zoo import DetectorConfig

NETWORK_STRIDE = 32
"""Of the backbone's last map."""


def build(config: DetectorConfig | DetectorSettings) -> TwoStageDetector:
    """Build a detector with untrained weights, in evaluation mode.

    Raises:
        ParameterError: a setting can't be built; the message names it.
    """
    settings = config.settings if isinstance(config, DetectorConfig) else config
    check_settings(settings)
    channels, heads = settings.neck.out_channels, settings.roi_head
    bbox_heads = [
        ConvFCBBoxHead(head, channels, extractor.output_size, settings.num_classes)
        for head, extractor in zip(heads.bbox_heads, heads.bbox_roi_extractors, strict=True)
    ]
    mask_heads = [
        FCNMaskHead(head, channels, extractor.output_size, settings.num_classes)
        for head, extractor in zip(heads.mask_heads, heads.mask_roi_extractors, strict=True)
    ]
    roi_head: RoIHead | CascadeRoIHead
    if heads.cascade:
        roi_head = CascadeRoIHead(heads, bbox_heads, mask_heads)
    else:
        roi_head = RoIHead(heads, bbox_heads[0], mask_heads[0] if mask_heads else None)
    pad = settings.preprocessing.pad
    return TwoStageDetector(
        backbone=ResNeSt(settings.backbone),
        neck=FPN(
            settings.backbone.out_channels,
            settings.neck,
            doubles=settings.preprocessing.size_divisor % NETWORK_STRIDE == 0,
        ),
        rpn_head=RPN(settings.rpn, settings.test_rpn, channels),
        roi_head=roi_head,
        test=settings.test_rcnn,
        # Answers lie within the image; masks are those of the boxes that are answered.
        clips_detections=not heads.bbox_heads[-1].coder.clip_border or (pad is not None and pad.before_normalization),
    ).eval()


def check_settings(settings: DetectorSettings) -> None:
    """Refuse what the network has no form for.

    Raises:
        ParameterError: names every such setting.
    """
    heads = settings.roi_head
    problems = [
        f"{kind}[{stage}].strides has {len(extractor.strides)} levels, and regions are pooled from at most {LEVELS}"
        for kind, extractors in (
            ("bbox_roi_extractors", heads.bbox_roi_extractors),
            ("mask_roi_extractors", heads.mask_roi_extractors),
        )
        for stage, extractor in enumerate(extractors)
        if len(extractor.strides) > LEVELS
    ]
    if len(settings.rpn.anchors.strides) != settings.neck.num_outs:
        problems.append(
            f"rpn.anchors has {len(settings.rpn.anchors.strides)} levels, but the neck {settings.neck.num_outs}"
        )
    sizes = {
        head.upsample_factor * extractor.output_size
        for head, extractor in zip(heads.mask_heads, heads.mask_roi_extractors, strict=True)
    }
    if len(sizes) > 1:
        problems.append("the stages' mask heads have maps of several sizes, which can't be averaged")
    if settings.test_rpn.nms_pre <= 0:
        problems.append(f"test_rpn.nms_pre is {settings.test_rpn.nms_pre}, and must be a number of candidates")
    if problems:
        raise ParameterError(f"This detector can't be built: {'; '.join(problems)}. Change these settings.")
