"""Texts of configurations: mmdetection 2's of the published detectors, and a flat one of mmdetection 3 to change."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from resnest_export.coco_classes import COCO
from resnest_export.mmdet_config import DetectorSettings, read_config, read_config_file, settings_from_config
from resnest_export.mmdet_config.settings import (
    AnchorSettings,
    BackboneSettings,
    BatchNormSettings,
    BoxCoderSettings,
    BoxHeadSettings,
    MaskHeadSettings,
    NeckSettings,
    NMSSettings,
    PreprocessingSettings,
    RCNNTestSettings,
    RoIExtractorSettings,
    RoIHeadSettings,
    RPNSettings,
    RPNTestSettings,
)

CONFIGS = Path(__file__).parents[2] / "data" / "configs"
MISSING = ...
NORM = {"type": "SyncBN", "requires_grad": True}
STDS = ([0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [0.033, 0.033, 0.067, 0.067])

SMALL_PARTS = DetectorSettings(
    num_classes=3,
    classes=("screw", "nut", "washer"),
    backbone=BackboneSettings((3, 4, 6, 3), 64, 64, 2, 4, True, BatchNormSettings(1e-5)),
    neck=NeckSettings(256, 5),
    rpn=RPNSettings(
        256,
        AnchorSettings((4, 8, 16, 32, 64), (4, 8, 16, 32, 64), (4,), (0.33, 0.5, 1, 2, 3), True, 0.0),
        BoxCoderSettings((0, 0, 0, 0), (1, 1, 1, 1), True),
    ),
    roi_head=RoIHeadSettings(
        False,
        (RoIExtractorSettings(7, 0, (4, 8, 16, 32), 56),),
        (
            BoxHeadSettings(
                4, 1, 256, 1024, BatchNormSettings(1e-5), False, BoxCoderSettings(stds=(0.1, 0.1, 0.2, 0.2))
            ),
        ),
        (RoIExtractorSettings(14, 0, (4, 8, 16, 32), 56),),
        (MaskHeadSettings(4, 256, BatchNormSettings(1e-5), False, 2),),
    ),
    test_rpn=RPNTestSettings(2000, 0.8, 500, 0),
    test_rcnn=RCNNTestSettings(0.1, NMSSettings("nms", 0.6), 200, 0.5),
    preprocessing=PreprocessingSettings(
        (123.68, 116.779, 103.939), (58.393, 57.12, 57.375), "rgb", (1024, 640), True, 32
    ),
)


def plain(name: str = "small_parts", file: str = "config.py") -> dict[str, Any]:
    """Return one of the configurations of the test data as plain dictionaries."""
    result: dict[str, Any] = _plain(read_config_file(CONFIGS / name / file))
    return result


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_plain, value))
    return value


def text_of(config: dict[str, Any]) -> str:
    """Return the text of a configuration given as plain dictionaries."""
    return "".join(f"{name} = {value!r}\n" for name, value in config.items())


def changed(path: str, value: Any, name: str = "small_parts", file: str = "config.py") -> DetectorSettings:
    """Return the settings of a configuration in which one key has another value, or is taken out (MISSING).

    Args:
        path: such as `model.roi_head.bbox_head.0.num_classes`.
        value: of that key.
        name, file: of the configuration in the test data.
    """
    config = copy.deepcopy(plain(name, file))
    *way, last = path.split(".")
    part: Any = config
    for step in way:
        part = part[int(step)] if step.isdigit() else part[step]
    if value is MISSING:
        del part[last]
    else:
        part[int(last) if last.isdigit() else last] = value
    return settings_from_config(read_config(text_of(config)))


def published_text(depth: int, *, cascade: bool, masks: bool) -> str:
    """Return the flat text of a published detector in mmdetection 2.5's style."""
    roi_extractor = {"type": "SingleRoIExtractor", "out_channels": 256, "featmap_strides": [4, 8, 16, 32]}
    bbox_head = {
        "type": "Shared4Conv1FCBBoxHead",
        "in_channels": 256,
        "conv_out_channels": 256,
        "fc_out_channels": 1024,
        "roi_feat_size": 7,
        "num_classes": 80,
        "norm_cfg": NORM,
        "reg_class_agnostic": cascade,
        "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0},
        "loss_bbox": {"type": "SmoothL1Loss", "beta": 1.0, "loss_weight": 1.0},
    }
    heads = [{**bbox_head, "bbox_coder": _coder(stds)} for stds in (STDS if cascade else STDS[:1])]
    roi_head: dict[str, Any] = {
        "type": "CascadeRoIHead" if cascade else "StandardRoIHead",
        "bbox_roi_extractor": {**roi_extractor, "roi_layer": _roi_layer(7)},
        "bbox_head": heads if cascade else heads[0],
    }
    if cascade:
        roi_head.update(num_stages=3, stage_loss_weights=[1, 0.5, 0.25])
    if masks:
        roi_head["mask_roi_extractor"] = {**roi_extractor, "roi_layer": _roi_layer(14)}
        roi_head["mask_head"] = {
            "type": "FCNMaskHead",
            "num_convs": 4,
            "in_channels": 256,
            "conv_out_channels": 256,
            "num_classes": 80,
            "norm_cfg": NORM,
            "loss_mask": {"type": "CrossEntropyLoss", "use_mask": True, "loss_weight": 1.0},
        }
    rcnn: dict[str, Any] = {"score_thr": 0.05, "nms": {"type": "nms", "iou_threshold": 0.5}, "max_per_img": 100}
    if masks:
        rcnn["mask_thr_binary"] = 0.5
    model = {
        "type": "CascadeRCNN" if cascade else "MaskRCNN" if masks else "FasterRCNN",
        "pretrained": f"open-mmlab://resnest{depth}",
        "backbone": {
            "type": "ResNeSt",
            "depth": depth,
            "stem_channels": {50: 64, 101: 128}[depth],
            "radix": 2,
            "reduction_factor": 4,
            "avg_down_stride": True,
            "num_stages": 4,
            "out_indices": (0, 1, 2, 3),
            "frozen_stages": 1,
            "norm_cfg": NORM,
            "norm_eval": False,
            "style": "pytorch",
        },
        "neck": {"type": "FPN", "in_channels": [256, 512, 1024, 2048], "out_channels": 256, "num_outs": 5},
        "rpn_head": {
            "type": "RPNHead",
            "in_channels": 256,
            "feat_channels": 256,
            "anchor_generator": {
                "type": "AnchorGenerator",
                "scales": [8],
                "ratios": [0.5, 1.0, 2.0],
                "strides": [4, 8, 16, 32, 64],
            },
            "bbox_coder": _coder([1.0, 1.0, 1.0, 1.0]),
            "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1.0},
            "loss_bbox": {"type": "L1Loss", "loss_weight": 1.0},
        },
        "roi_head": roi_head,
    }
    return (
        f"model = {model!r}\n"
        "train_cfg = dict(rpn=dict(allowed_border=-1), rcnn=dict(pos_weight=-1))\n"
        f"test_cfg = dict(rpn=dict(nms_across_levels=False, nms_pre=1000, nms_post=1000, max_num=1000, nms_thr=0.7,\n"
        f"                         min_bbox_size=0), rcnn={rcnn!r})\n"
        f"classes = {tuple(COCO)!r}\n"
        "img_norm_cfg = dict(mean=[123.68, 116.779, 103.939], std=[58.393, 57.12, 57.375], to_rgb=True)\n"
        "test_pipeline = [\n"
        "    dict(type='LoadImageFromFile'),\n"
        "    dict(type='MultiScaleFlipAug', img_scale=(1333, 800), flip=False, transforms=[\n"
        "        dict(type='Resize', keep_ratio=True), dict(type='RandomFlip'),\n"
        "        dict(type='Normalize', **img_norm_cfg), dict(type='Pad', size_divisor=32),\n"
        "        dict(type='ImageToTensor', keys=['img']), dict(type='Collect', keys=['img'])])]\n"
        "data = dict(samples_per_gpu=2, test=dict(type='CocoDataset', pipeline=test_pipeline))\n"
        "optimizer = dict(type='SGD', lr=0.02)\n"
    )


def _coder(stds: list[float]) -> dict[str, Any]:
    return {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0, 0.0, 0.0, 0.0], "target_stds": stds}


def _roi_layer(size: int) -> dict[str, Any]:
    return {"type": "RoIAlign", "output_size": size, "sampling_ratio": 0}
