"""Detectors that use many of a configuration's options at once, exported and compared with PyTorch in both runtimes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from resnest_core.runtimes import OnnxRuntime, OpenVinoRuntime
from resnest_export.check import Reference, check
from resnest_export.checkpoint import Checkpoint
from resnest_export.deployed_detector import DeployedDetector
from resnest_export.mmdet_config.settings import (
    AnchorSettings,
    BackboneSettings,
    BatchNormSettings,
    BoxCoderSettings,
    BoxHeadSettings,
    DetectorSettings,
    MaskHeadSettings,
    NeckSettings,
    NMSSettings,
    PadSettings,
    PreprocessingSettings,
    RCNNTestSettings,
    RoIExtractorSettings,
    RoIHeadSettings,
    RPNSettings,
    RPNTestSettings,
)
from resnest_export.models import DetectorConfig, build
from resnest_export.models.detector import TwoStageDetector
from resnest_export.pipeline import make_card
from resnest_export.to_onnx import export_onnx
from tests.data.parity import fill

GAIN = 8.0
EXTRACTOR = RoIExtractorSettings(7, sampling_ratio=2, strides=(4, 8), finest_scale=28.0)
OPEN = BoxCoderSettings(means=(0.01, 0.0, 0.0, 0.01), stds=(0.1, 0.1, 0.2, 0.2), clip_border=False)

CASCADE = DetectorSettings(
    num_classes=3,
    backbone=BackboneSettings((1, 1, 1, 1), stem_channels=16, base_channels=8, radix=1, norm=BatchNormSettings(1e-3)),
    neck=NeckSettings(16, 4),
    rpn=RPNSettings(
        16,
        AnchorSettings((4, 8, 16, 32), (6.0, 12.0, 24.0, 48.0), (2.0, 4.0), (0.5, 2.0), False, 0.5),
        BoxCoderSettings(clip_border=False),
    ),
    roi_head=RoIHeadSettings(
        cascade=True,
        bbox_roi_extractors=(EXTRACTOR,) * 2,
        bbox_heads=(
            BoxHeadSettings(0, 2, 0, 32, norm=None, coder=OPEN),
            BoxHeadSettings(1, 1, 16, 32, norm=None, class_agnostic=True, coder=OPEN),
        ),
        mask_roi_extractors=(RoIExtractorSettings(7, sampling_ratio=1),) * 2,
        mask_heads=(MaskHeadSettings(1, 16, norm=None, class_agnostic=True, upsample_factor=4),) * 2,
    ),
    test_rpn=RPNTestSettings(nms_pre=300, iou_threshold=0.6, max_per_img=200, min_bbox_size=4.0),
    test_rcnn=RCNNTestSettings(0.1, NMSSettings(iou_threshold=0.4, class_agnostic=True), 300, 0.4),
    preprocessing=PreprocessingSettings(
        (103.5, 116.3, 123.7), (57.4, 57.1, 58.4), "bgr", (301, 203), True, size_divisor=1
    ),
)
SOFT = DetectorSettings(
    num_classes=2,
    backbone=BackboneSettings((1, 1, 1, 1), 16, 8, reduction_factor=2, avg_down_stride=False),
    neck=NeckSettings(16, 5),
    rpn=RPNSettings(24),
    roi_head=RoIHeadSettings(bbox_heads=(BoxHeadSettings(1, 0, 24, 0, class_agnostic=True),)),
    test_rpn=RPNTestSettings(nms_pre=500, max_per_img=150),
    test_rcnn=RCNNTestSettings(
        0.05, NMSSettings("soft_nms", 0.3, method="gaussian", sigma=0.5, min_score=0.02), max_per_img=20
    ),
    preprocessing=PreprocessingSettings(
        scale=(320, 208), keep_ratio=False, size_divisor=16, pad=PadSettings((240, 340), True, (7.0, 8.0, 9.0))
    ),
)


def filled(settings: DetectorSettings, monkeypatch: pytest.MonkeyPatch) -> TwoStageDetector:
    """Build a detector with the parity kit's reproducible weights, and classifiers that tell regions apart."""
    detector = build(settings)
    shapes = {key: tuple(value.shape) for key, value in detector.state_dict().items()}
    classifiers = {
        key.removesuffix(".bias"): {"gain": GAIN, "bias": [0.0] * shape[0]}
        for key, shape in shapes.items()
        if key.endswith("fc_cls.bias")
    }
    monkeypatch.setattr(fill, "CLASSIFIERS", {"mine": classifiers})
    detector.load_state_dict({key: torch.from_numpy(fill.fill("mine", key, shape)) for key, shape in shapes.items()})
    return detector


@pytest.mark.parametrize("settings", [CASCADE, SOFT], ids=["cascade", "soft"])
def test_exported_detectors_answer_what_pytorch_answers(
    settings: DetectorSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DetectorConfig("mine", settings)
    classes = ("nut", "bolt", "pin")[: settings.num_classes]
    ids = tuple(range(1, settings.num_classes + 1))
    card = make_card(config, classes, ids, Checkpoint({}, None, "0" * 64), Path("mine.pth"))
    detector, path = filled(settings, monkeypatch), tmp_path / "model.onnx"
    export_onnx(detector, card, path)
    reference = Reference(DeployedDetector(detector, card), card)
    for runtime in (OnnxRuntime, OpenVinoRuntime):
        lines = list(check(path, reference, card, runtime))
        print(*lines, sep="\n")
        assert len(lines) == 6 and not any("with nothing found" in line for line in lines)
