"""The published detectors' settings, and what differs from them."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from resnest_core.errors import ModelNotFoundError
from resnest_core.published import PUBLISHED
from resnest_export.coco_classes import COCO
from resnest_export.mmdet_config.settings import (
    BLOCKS,
    AnchorSettings,
    BackboneSettings,
    BoxCoderSettings,
    BoxHeadSettings,
    DetectorSettings,
    MaskHeadSettings,
    NeckSettings,
    PreprocessingSettings,
    RCNNTestSettings,
    RoIExtractorSettings,
    RoIHeadSettings,
    RPNSettings,
)

CASCADE_STDS = ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067))
BACKBONES = {
    "ResNeSt-50": BackboneSettings(BLOCKS[50], stem_channels=64),
    "ResNeSt-101": BackboneSettings(BLOCKS[101], stem_channels=128),
}
MASK_EXTRACTOR = RoIExtractorSettings(output_size=14)
MASK_THRESHOLD = 0.5


def _published(backbone: BackboneSettings, *, cascade: bool, masks: bool) -> DetectorSettings:
    if cascade:
        heads = tuple(BoxHeadSettings(class_agnostic=True, coder=BoxCoderSettings(stds=stds)) for stds in CASCADE_STDS)
    else:
        heads = (BoxHeadSettings(),)
    count = len(heads)
    return DetectorSettings(
        num_classes=len(COCO),
        classes=tuple(COCO),
        backbone=backbone,
        roi_head=RoIHeadSettings(
            cascade=cascade,
            bbox_roi_extractors=(RoIExtractorSettings(),) * count,
            bbox_heads=heads,
            mask_roi_extractors=(MASK_EXTRACTOR,) * count if masks else (),
            mask_heads=(MaskHeadSettings(),) * count if masks else (),
        ),
        test_rcnn=RCNNTestSettings(mask_thr_binary=MASK_THRESHOLD if masks else None),
    )


_DEMO = DetectorSettings(
    num_classes=len(COCO),
    classes=tuple(COCO),
    backbone=BackboneSettings((1, 1, 1, 1), stem_channels=32, base_channels=32),
    neck=NeckSettings(out_channels=64),
    rpn=RPNSettings(feat_channels=64, anchors=AnchorSettings(scales=(4.0,))),
    roi_head=RoIHeadSettings(
        bbox_heads=(BoxHeadSettings(conv_out_channels=64, fc_out_channels=256),),
        mask_roi_extractors=(MASK_EXTRACTOR,),
        mask_heads=(MaskHeadSettings(conv_out_channels=64),),
    ),
    test_rcnn=RCNNTestSettings(mask_thr_binary=MASK_THRESHOLD),
    preprocessing=PreprocessingSettings(scale=(533, 320)),
)

_SETTINGS = {
    row.name: _published(BACKBONES[row.backbone], cascade="Cascade" in row.family, masks="Mask" in row.family)
    for row in PUBLISHED.values()
}


def settings_of_published(name: str) -> DetectorSettings:
    """Return the settings of one of the eight published detectors, or of `demo`, with COCO's classes.

    Raises:
        ModelNotFoundError: there is none of this name.
    """
    known = {**_SETTINGS, "demo": _DEMO}
    if name not in known:
        raise ModelNotFoundError(f"There is no detector {name!r}: use one of {', '.join(known)}.")
    return known[name]


def differences(a: DetectorSettings, b: DetectorSettings) -> list[tuple[str, Any, Any]]:
    """Return every setting that differs, as (path, value in `a`, value in `b`), in the order of the fields.

    A path is such as `roi_head.bbox_heads[0].coder.stds`. Tuples of another length, and parts that only one of the two
    has, are given whole.
    """
    return list(_differences("", a, b))


def differences_from_published(settings: DetectorSettings, name: str) -> list[tuple[str, Any, Any]]:
    """Return what differs from a published detector, as (path, its value, this one's); classes' names don't count."""
    return [row for row in differences(settings_of_published(name), settings) if row[0] != "classes"]


def _differences(path: str, a: Any, b: Any) -> list[tuple[str, Any, Any]]:
    if a == b:
        return []
    if is_dataclass(a) and type(a) is type(b):
        prefix = f"{path}." if path else ""
        return [
            difference
            for field in fields(a)
            for difference in _differences(f"{prefix}{field.name}", getattr(a, field.name), getattr(b, field.name))
        ]
    if _is_stages(a) and _is_stages(b) and len(a) == len(b):
        return [
            difference
            for index, pair in enumerate(zip(a, b, strict=True))
            for difference in _differences(f"{path}[{index}]", *pair)
        ]
    return [(path, a, b)]


def _is_stages(value: Any) -> bool:
    return isinstance(value, tuple) and any(map(is_dataclass, value))


def nearest_published(settings: DetectorSettings) -> str:
    """Return the name of the published detector with the fewest differing settings, of the same family."""
    return min(
        _SETTINGS,
        key=lambda name: (_SETTINGS[name].family != settings.family, len(differences(settings, _SETTINGS[name]))),
    )
