"""The published detectors' settings: from configurations, against the table of detectors and the weights' shapes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from resnest_core.errors import ModelNotFoundError
from resnest_core.published import PUBLISHED
from resnest_export.mmdet_config import (
    DetectorSettings,
    differences,
    differences_from_published,
    nearest_published,
    read_config,
    read_config_file,
    settings_from_config,
    settings_of_published,
)
from tests.export.mmdet_config.texts import CONFIGS, published_text
from tests.weights import keys

COCO_OR_OWN = {"num_classes", "classes"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_configuration_of_a_published_detector_gives_its_settings(name: str) -> None:
    depth = 101 if name.endswith("s101") else 50
    text = published_text(depth, cascade="cascade" in name, masks="mask" in name)
    settings = settings_from_config(read_config(text))
    assert differences(settings, settings_of_published(name)) == []
    assert nearest_published(settings) == name


def test_published_numbers() -> None:
    settings = settings_of_published("cascade_mask_rcnn_s101")
    assert settings.backbone.blocks == (3, 4, 23, 3)
    assert settings.backbone.out_channels == (256, 512, 1024, 2048)
    assert settings.rpn.anchors.strides == (4, 8, 16, 32, 64)
    assert settings.rpn.anchors.base_sizes == (4, 8, 16, 32, 64)
    assert settings.rpn.anchors.num_base_anchors == 3
    assert [head.coder.stds[0] for head in settings.roi_head.bbox_heads] == [0.1, 0.05, 0.033]
    assert settings.test_rpn.iou_threshold == 0.7
    assert settings.test_rcnn.score_thr == 0.05
    assert settings.test_rcnn.mask_thr_binary == 0.5
    assert settings_of_published("cascade_rcnn_s101").test_rcnn.mask_thr_binary is None


def shapes_of(settings: DetectorSettings) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the weights that depend on the settings outside the backbone's blocks."""
    anchors, head = settings.rpn.anchors.num_base_anchors, settings.roi_head
    shapes: dict[str, tuple[int, ...]] = {
        "rpn_head.rpn_cls.weight": (anchors, settings.rpn.feat_channels, 1, 1),
        "rpn_head.rpn_reg.weight": (4 * anchors, settings.rpn.feat_channels, 1, 1),
        "neck.lateral_convs.3.conv.weight": (settings.neck.out_channels, settings.backbone.out_channels[3], 1, 1),
        "backbone.stem.6.weight": (settings.backbone.stem_channels, settings.backbone.stem_channels // 2, 3, 3),
    }
    for index, box in enumerate(head.bbox_heads):
        prefix = f"roi_head.bbox_head.{index}" if head.cascade else "roi_head.bbox_head"
        area = head.bbox_roi_extractors[index].output_size ** 2
        into = (box.conv_out_channels or settings.neck.out_channels) * area
        shapes[f"{prefix}.shared_fcs.0.weight"] = (box.fc_out_channels, into)
        shapes[f"{prefix}.fc_cls.weight"] = (settings.num_classes + 1, box.fc_out_channels)
        shapes[f"{prefix}.fc_reg.bias"] = (4 if box.class_agnostic else 4 * settings.num_classes,)
        shapes.update({f"{prefix}.shared_convs.{i}.bn.bias": (256,) for i in range(box.num_shared_convs)})
    for index, mask in enumerate(head.mask_heads):
        prefix = f"roi_head.mask_head.{index}" if head.cascade else "roi_head.mask_head"
        shapes[f"{prefix}.conv_logits.bias"] = (1 if mask.class_agnostic else settings.num_classes,)
        shapes[f"{prefix}.convs.{mask.num_convs - 1}.conv.weight"] = (256, 256, 3, 3)
    return shapes


@pytest.mark.parametrize("name", ["small_parts", "two_fc_soft", "bgr_cascade", *PUBLISHED])
def test_settings_fit_the_shapes_of_the_weights(name: str) -> None:
    if name in PUBLISHED:
        settings, weights = settings_of_published(name), keys(name)
    else:
        settings = settings_from_config(read_config_file(CONFIGS / name / "config.py"))
        stored = json.loads((CONFIGS / name / "keys.json").read_text())
        weights = {key: tuple(shape) for key, shape in stored.items()}
    for key, shape in shapes_of(settings).items():
        assert weights[key] == shape, key
    for index, mask in enumerate(settings.roi_head.mask_heads):
        prefix = f"roi_head.mask_head.{index}" if settings.roi_head.cascade else "roi_head.mask_head"
        assert f"{prefix}.convs.{mask.num_convs}.conv.weight" not in weights


@pytest.mark.parametrize(
    ("name", "nearest", "paths"),
    [
        (
            "small_parts",
            "mask_rcnn_s50",
            {
                "rpn.anchors.scales",
                "rpn.anchors.ratios",
                "test_rpn.nms_pre",
                "test_rpn.iou_threshold",
                "test_rpn.max_per_img",
                "test_rcnn.score_thr",
                "test_rcnn.nms.iou_threshold",
                "test_rcnn.max_per_img",
                "preprocessing.scale",
            },
        ),
        (
            "two_fc_soft",
            "faster_rcnn_s50",
            {
                "roi_head.bbox_heads[0].num_shared_convs",
                "roi_head.bbox_heads[0].num_shared_fcs",
                "roi_head.bbox_heads[0].conv_out_channels",
                "roi_head.bbox_heads[0].norm",
                "test_rcnn.score_thr",
                "test_rcnn.nms.type",
                "test_rcnn.nms.method",
                "test_rcnn.nms.sigma",
                "test_rcnn.nms.min_score",
                "preprocessing.scale",
                "preprocessing.keep_ratio",
            },
        ),
        (
            "bgr_cascade",
            "cascade_mask_rcnn_s50",
            {
                *(f"roi_head.bbox_heads[{i}].class_agnostic" for i in range(3)),
                *(f"roi_head.mask_heads[{i}].{field}" for i in range(3) for field in ("num_convs", "class_agnostic")),
                "test_rcnn.max_per_img",
                "test_rcnn.mask_thr_binary",
                "preprocessing.mean",
                "preprocessing.std",
                "preprocessing.channel_order",
                "preprocessing.scale",
                "preprocessing.size_divisor",
            },
        ),
    ],
)
def test_differences_from_the_nearest_published(name: str, nearest: str, paths: set[str]) -> None:
    settings = settings_from_config(read_config_file(CONFIGS / name / "config.py"))
    assert nearest_published(settings) == nearest
    found = differences(settings, settings_of_published(nearest))
    assert {path for path, _, _ in found} == paths | COCO_OR_OWN
    shown = [(path, theirs, ours) for path, ours, theirs in found if path != "classes"]
    assert differences_from_published(settings, nearest) == shown


def test_differences_hold_both_values_and_whole_tuples_of_other_lengths() -> None:
    published = settings_of_published("cascade_rcnn_s50")
    head = replace(published.roi_head, bbox_heads=published.roi_head.bbox_heads[:2])
    own = replace(published, num_classes=3, roi_head=head)
    assert differences(own, published) == [
        ("num_classes", 3, 80),
        ("roi_head.bbox_heads", head.bbox_heads, published.roi_head.bbox_heads),
    ]
    assert differences(published, published) == []


def test_unknown_name() -> None:
    with pytest.raises(ModelNotFoundError, match=r"yolo.*faster_rcnn_s50"):
        settings_of_published("yolo")


def test_reading_needs_no_torch() -> None:
    script = "import sys, resnest_export.mmdet_config; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False"]
