"""Settings from configurations: every row of what a configuration may say, with numbers worked by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from resnest_export.mmdet_config import DetectorSettings, read_config, read_config_file, settings_from_config
from resnest_export.mmdet_config.settings import (
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
)
from tests.export.mmdet_config.texts import CONFIGS, MISSING, SMALL_PARTS, changed, plain, published_text, text_of

BGR = "bgr_cascade"
NORM = {"type": "BN", "eps": 1e-3, "momentum": 0.1, "requires_grad": False}


@pytest.mark.parametrize("file", ["config.py", "config_v2.py"])
def test_both_styles_of_small_parts(file: str) -> None:
    assert settings_from_config(read_config_file(CONFIGS / "small_parts" / file)) == SMALL_PARTS


def test_two_fc_soft() -> None:
    settings = settings_from_config(read_config_file(CONFIGS / "two_fc_soft" / "config.py"))
    assert settings.family == "Faster R-CNN"
    assert settings.roi_head.bbox_heads == (BoxHeadSettings(0, 2, 0, 1024, None),)
    assert not settings.roi_head.has_masks
    assert settings.test_rcnn == RCNNTestSettings(
        0.001, NMSSettings("soft_nms", 0.5, False, "linear", 0.5, 0.05), 100, None
    )
    assert settings.preprocessing == PreprocessingSettings(scale=(800, 608), keep_ratio=False)


def test_bgr_cascade() -> None:
    settings = settings_from_config(read_config_file(CONFIGS / BGR / "config.py"))
    assert settings.family == "Cascade Mask R-CNN"
    stds = [(0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067)]
    assert settings.roi_head.bbox_heads == tuple(BoxHeadSettings(coder=BoxCoderSettings(stds=s)) for s in stds)
    assert settings.roi_head.mask_heads == (MaskHeadSettings(num_convs=2, class_agnostic=True),) * 3
    assert settings.test_rcnn == RCNNTestSettings(max_per_img=50, mask_thr_binary=0.4)
    assert settings.preprocessing == PreprocessingSettings(
        (103.53, 116.28, 123.675), (57.375, 57.12, 58.395), "bgr", (512, 512), True, 64
    )


ROWS: list[tuple[str, Any, str, Any]] = [
    ("backbone.depth", 101, "backbone.blocks", (3, 4, 23, 3)),
    ("backbone.depth", 152, "backbone.blocks", (3, 8, 36, 3)),
    ("backbone.depth", 200, "backbone.blocks", (3, 24, 36, 3)),
    ("backbone.type", "mmdet.ResNeSt", "backbone.blocks", (3, 4, 6, 3)),
    ("backbone.type", "mmdet.models.backbones.resnest.ResNeSt", "backbone.radix", 2),
    ("backbone.stem_channels", 128, "backbone.stem_channels", 128),
    ("backbone.stem_channels", MISSING, "backbone.stem_channels", 64),
    ("backbone.radix", 1, "backbone.radix", 1),
    ("backbone.radix", MISSING, "backbone.radix", 2),
    ("backbone.reduction_factor", 2, "backbone.reduction_factor", 2),
    ("backbone.reduction_factor", MISSING, "backbone.reduction_factor", 4),
    ("backbone.avg_down_stride", False, "backbone.avg_down_stride", False),
    ("backbone.avg_down_stride", MISSING, "backbone.avg_down_stride", True),
    ("backbone.norm_cfg", NORM, "backbone.norm", BatchNormSettings(1e-3)),
    ("backbone.norm_cfg", MISSING, "backbone.norm", BatchNormSettings(1e-5)),
    ("backbone.frozen_stages", 4, "backbone.radix", 2),
    ("backbone.dcn", None, "backbone.radix", 2),
    ("neck.relu_before_extra_convs", True, "neck.num_outs", 5),
    ("rpn_head.feat_channels", 128, "rpn.feat_channels", 128),
    ("rpn_head.feat_channels", MISSING, "rpn.feat_channels", 256),
    ("rpn_head.anchor_generator.scales", [2, 4.5], "rpn.anchors.scales", (2.0, 4.5)),
    ("rpn_head.anchor_generator.ratios", (1.0,), "rpn.anchors.ratios", (1.0,)),
    ("rpn_head.anchor_generator.strides", [8, [16, 16], 32, 64, 128], "rpn.anchors.strides", (8, 16, 32, 64, 128)),
    ("rpn_head.anchor_generator.strides", [8, 16, 32, 64, 128], "rpn.anchors.base_sizes", (8, 16, 32, 64, 128)),
    ("rpn_head.anchor_generator.base_sizes", [3, 9, 27, 81, 99.5], "rpn.anchors.base_sizes", (3, 9, 27, 81, 99.5)),
    ("rpn_head.anchor_generator.center_offset", 0.5, "rpn.anchors.center_offset", 0.5),
    ("rpn_head.anchor_generator.scale_major", False, "rpn.anchors.scale_major", False),
    ("rpn_head.anchor_generator", MISSING, "rpn.anchors.scales", (8, 16, 32)),
    ("rpn_head.bbox_coder.target_means", [0.1, 0, 0, 0], "rpn.coder.means", (0.1, 0, 0, 0)),
    ("rpn_head.bbox_coder.target_stds", [2, 2, 1, 1], "rpn.coder.stds", (2, 2, 1, 1)),
    ("rpn_head.bbox_coder.clip_border", False, "rpn.coder.clip_border", False),
    ("rpn_head.bbox_coder", MISSING, "rpn.coder.stds", (1, 1, 1, 1)),
    ("rpn_head.loss_cls", {"type": "FocalLoss", "use_sigmoid": True, "gamma": 2.0}, "rpn.feat_channels", 256),
    ("rpn_head.loss_cls", MISSING, "rpn.feat_channels", 256),
    ("rpn_head.reg_decoded_bbox", True, "rpn.feat_channels", 256),
    ("roi_head.bbox_roi_extractor.finest_scale", 28, "roi_head.bbox_roi_extractors[0].finest_scale", 28),
    ("roi_head.bbox_roi_extractor.featmap_strides", [4, 8, 16], "roi_head.bbox_roi_extractors[0].strides", (4, 8, 16)),
    ("roi_head.bbox_roi_extractor.roi_layer.sampling_ratio", 2, "roi_head.bbox_roi_extractors[0].sampling_ratio", 2),
    ("roi_head.bbox_roi_extractor.roi_layer.sampling_ratio", -1, "roi_head.bbox_roi_extractors[0].sampling_ratio", 0),
    ("roi_head.mask_roi_extractor.roi_layer.output_size", (7, 7), "roi_head.mask_size", 14),
    ("roi_head.mask_roi_extractor.roi_layer", {"type": "RoIAlign", "out_size": 10, "sample_num": 2},
     "roi_head.mask_roi_extractors[0]", RoIExtractorSettings(10, 2)),
    ("roi_head.mask_roi_extractor", None, "roi_head.mask_size", 14),
    ("roi_head.bbox_head.fc_out_channels", 512, "roi_head.bbox_heads[0].fc_out_channels", 512),
    ("roi_head.bbox_head.conv_out_channels", 128, "roi_head.bbox_heads[0].conv_out_channels", 128),
    ("roi_head.bbox_head.norm_cfg", None, "roi_head.bbox_heads[0].norm", None),
    ("roi_head.bbox_head.norm_cfg", MISSING, "roi_head.bbox_heads[0].norm", None),
    ("roi_head.bbox_head.norm_cfg", NORM, "roi_head.bbox_heads[0].norm", BatchNormSettings(1e-3)),
    ("roi_head.bbox_head.reg_class_agnostic", True, "roi_head.bbox_heads[0].class_agnostic", True),
    ("roi_head.bbox_head.bbox_coder", MISSING, "roi_head.bbox_heads[0].coder.stds", (0.1, 0.1, 0.2, 0.2)),
    ("roi_head.bbox_head.bbox_coder", {"type": "DeltaXYWHBBoxCoder"}, "roi_head.bbox_heads[0].coder.stds", (1,) * 4),
    ("roi_head.bbox_head.bbox_coder.clip_border", False, "roi_head.bbox_heads[0].coder.clip_border", False),
    ("roi_head.bbox_head.loss_bbox", {"type": "GIoULoss", "eps": 1e-6}, "roi_head.bbox_heads[0].num_shared_fcs", 1),
    ("roi_head.bbox_head.reg_decoded_bbox", True, "roi_head.bbox_heads[0].num_shared_fcs", 1),
    ("roi_head.mask_head.num_convs", 0, "roi_head.mask_heads[0]", MaskHeadSettings(0, 256, None)),
    ("roi_head.mask_head.conv_out_channels", 64, "roi_head.mask_heads[0].conv_out_channels", 64),
    ("roi_head.mask_head.norm_cfg", None, "roi_head.mask_heads[0].norm", None),
    ("roi_head.mask_head.class_agnostic", True, "roi_head.mask_heads[0].class_agnostic", True),
    ("roi_head.mask_head.upsample_cfg", {"type": "deconv", "scale_factor": 4}, "roi_head.mask_size", 56),
    ("roi_head.mask_head.predictor_cfg", {"type": "Conv"}, "roi_head.mask_size", 28),
    ("test_cfg.rpn.nms_pre", 300, "test_rpn.nms_pre", 300),
    ("test_cfg.rpn.max_per_img", 50, "test_rpn.max_per_img", 50),
    ("test_cfg.rpn.nms.iou_threshold", 0.65, "test_rpn.iou_threshold", 0.65),
    ("test_cfg.rpn.nms", {"iou_thr": 0.65}, "test_rpn.iou_threshold", 0.65),
    ("test_cfg.rpn.nms", {"iou_thr": 0.65, "iou_threshold": 0.65}, "test_rpn.iou_threshold", 0.65),
    ("test_cfg.rpn.min_bbox_size", 8, "test_rpn.min_bbox_size", 8),
    ("test_cfg.rpn.min_bbox_size", MISSING, "test_rpn.min_bbox_size", -1),
    ("test_cfg.rcnn.score_thr", 0.3, "test_rcnn.score_thr", 0.3),
    ("test_cfg.rcnn.score_thr", 0, "test_rcnn.score_thr", 0),
    ("test_cfg.rcnn.max_per_img", 1000, "test_rcnn.max_per_img", 1000),
    ("test_cfg.rcnn.mask_thr_binary", 0.35, "test_rcnn.mask_thr_binary", 0.35),
    ("test_cfg.rcnn.nms.class_agnostic", True, "test_rcnn.nms.class_agnostic", True),
    ("test_cfg.rcnn.nms.split_thr", 5000, "test_rcnn.nms.iou_threshold", 0.6),
    ("test_cfg.rcnn.nms", {"type": "soft_nms"}, "test_rcnn.nms",
     NMSSettings("soft_nms", 0.3, False, "linear", 0.5, 1e-3)),
    ("test_cfg.rcnn.nms", {"type": "soft_nms", "method": "gaussian", "sigma": 0.3, "class_agnostic": True},
     "test_rcnn.nms", NMSSettings("soft_nms", 0.3, True, "gaussian", 0.3, 1e-3)),
    ("test_cfg.rcnn.nms", {"type": "mmcv.ops.nms.soft_nms", "method": "naive", "min_score": 0}, "test_rcnn.nms.method",
     "naive"),
    ("data_preprocessor.bgr_to_rgb", MISSING, "preprocessing.channel_order", "bgr"),
    ("data_preprocessor.pad_size_divisor", 1, "preprocessing.size_divisor", 1),
    ("data_preprocessor.pad_size_divisor", MISSING, "preprocessing.size_divisor", 1),
    ("data_preprocessor.mean", [1, 2, 3.5], "preprocessing.mean", (1, 2, 3.5)),
    ("data_preprocessor.batch_augments", [{"type": "BatchFixedSizePad", "size": (9, 9)}], "preprocessing.pad", None),
    ("init_cfg", {"type": "Pretrained"}, "neck.out_channels", 256),
    ("train_cfg", None, "neck.out_channels", 256),
    ("_scope_", "mmdet", "neck.out_channels", 256),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "setting", "expected"), ROWS, ids=[f"{r[0]}={r[1]}"[:60] for r in ROWS])
def test_rows(path: str, value: Any, setting: str, expected: Any) -> None:
    settings: Any = changed(f"model.{path}", value)
    for name in setting.replace("[", ".").replace("]", "").split("."):
        settings = settings[int(name)] if name.isdigit() else getattr(settings, name)
    assert settings == expected


def build(**sections: Any) -> DetectorSettings:
    """Return the settings of small_parts with keys of its model replaced, by path with `__` for dots."""
    config = plain()
    for path, value in sections.items():
        *way, last = path.split("__")
        part = config["model"]
        for step in way:
            part = part[step]
        part[last] = value
    return settings_from_config(read_config(text_of(config)))


def test_thin_backbone_and_pyramid_of_four_levels() -> None:
    config = plain()
    model = config["model"]
    model["backbone"].update(base_channels=32, stem_channels=None)
    model["neck"].update(in_channels=[128, 256, 512, 1024], out_channels=96, num_outs=4)
    model["rpn_head"].update(in_channels=96)
    model["rpn_head"]["anchor_generator"].update(strides=[4, 8, 16, 32])
    for part in ("bbox_roi_extractor", "mask_roi_extractor"):
        model["roi_head"][part].update(out_channels=96)
    for part in ("bbox_head", "mask_head"):
        model["roi_head"][part].update(in_channels=96)
    settings = settings_from_config(read_config(text_of(config)))
    assert settings.backbone == BackboneSettings(stem_channels=32, base_channels=32)
    assert settings.backbone.out_channels == (128, 256, 512, 1024)
    assert settings.neck == NeckSettings(96, 4)
    assert settings.rpn.anchors.strides == (4, 8, 16, 32)


def test_octave_scales() -> None:
    generator = {
        "type": "AnchorGenerator", "octave_base_scale": 4, "scales_per_octave": 2, "ratios": [1.0],
        "strides": [4, 8, 16, 32, 64],
    }  # fmt: skip
    assert build(rpn_head__anchor_generator=generator).rpn.anchors.scales == (4.0, 4 * 2**0.5)


@pytest.mark.parametrize(("convs", "fcs"), [(0, 1), (1, 0), (2, 3), (6, 2)])
def test_convfc_head(convs: int, fcs: int) -> None:
    head = {"type": "ConvFCBBoxHead", "num_shared_convs": convs, "num_shared_fcs": fcs, "num_classes": 3,
            "norm_cfg": NORM}  # fmt: skip
    found = build(roi_head__bbox_head=head).roi_head.bbox_heads[0]
    norm = BatchNormSettings(1e-3) if convs else None
    assert found == BoxHeadSettings(convs, fcs, 256 if convs else 0, 1024 if fcs else 0, norm)


def test_a_convfc_head_with_the_layers_of_a_named_one_is_the_same() -> None:
    config = plain("two_fc_soft")
    named = settings_from_config(read_config(text_of(config)))
    config["model"]["roi_head"]["bbox_head"].update(type="ConvFCBBoxHead", num_shared_fcs=2)
    assert settings_from_config(read_config(text_of(config))) == named


def test_mean_and_std_may_be_absent_from_the_data_preprocessor() -> None:
    settings = build(data_preprocessor={"type": "DetDataPreprocessor", "rgb_to_bgr": True})
    assert settings.preprocessing.mean == (0, 0, 0)
    assert settings.preprocessing.std == (1, 1, 1)
    assert settings.preprocessing.channel_order == "rgb"  # images are loaded as BGR: either flag swaps
    assert settings.preprocessing.size_divisor == 1


@pytest.mark.parametrize("stages", [1, 2, 4])
def test_any_number_of_stages(stages: int) -> None:
    config = plain(BGR)
    head = config["model"]["roi_head"]
    head.update(num_stages=stages, bbox_head=(head["bbox_head"] * 2)[:stages])
    settings = settings_from_config(read_config(text_of(config)))
    assert settings.roi_head.cascade
    counts = {len(getattr(settings.roi_head, name)) for name in ("bbox_heads", "mask_heads", "bbox_roi_extractors")}
    assert counts == {stages}


def test_stages_may_share_or_list_their_parts() -> None:
    config = plain(BGR)
    whole = settings_from_config(read_config(text_of(config)))
    head = config["model"]["roi_head"]
    for part in ("bbox_roi_extractor", "mask_roi_extractor", "mask_head"):
        head[part] = [head[part]] * 3
    assert settings_from_config(read_config(text_of(config))) == whole
    head["bbox_head"] = head["bbox_head"][1]
    heads = settings_from_config(read_config(text_of(config))).roi_head.bbox_heads
    assert heads == (whole.roi_head.bbox_heads[1],) * 3


def test_mmdetection_2_test_cfg_inside_the_model() -> None:
    config = plain(file="config_v2.py")
    config["model"]["test_cfg"] = config.pop("test_cfg")
    config["model"]["train_cfg"] = config.pop("train_cfg")
    assert settings_from_config(read_config(text_of(config))) == SMALL_PARTS


@pytest.mark.parametrize("name", ["max_num", "nms_post", "max_per_img"])
def test_any_name_of_the_number_of_proposals(name: str) -> None:
    config = plain(file="config_v2.py")
    rpn = config["test_cfg"]["rpn"]
    del rpn["max_num"], rpn["nms_post"]
    rpn[name] = 321
    assert settings_from_config(read_config(text_of(config))).test_rpn.max_per_img == 321


@pytest.mark.parametrize("name", ["faster_rcnn_s50", "cascade_mask_rcnn_s50"])
def test_variables_of_the_file_do_not_matter(name: str) -> None:
    text = published_text(50, cascade="cascade" in name, masks="mask" in name)
    extra = "image_size = (1, 2)\nfp16 = dict(loss_scale=512.)\nlr_config = dict(step=[8])\nlog_level = 'INFO'\n"
    assert settings_from_config(read_config(text + extra)) == settings_from_config(read_config(text))


ABC, XYZ = ("a", "b", "c"), ["x", "y", "z"]


@pytest.mark.parametrize(
    ("dataset", "known", "variables", "expected"),
    [
        ({"metainfo": {"classes": ABC}}, tuple(XYZ), {"classes": XYZ}, ABC),
        ({"metainfo": {"CLASSES": XYZ}}, None, {}, tuple(XYZ)),
        ({"classes": ABC}, None, {}, ABC),
        ({}, tuple(XYZ), {"metainfo": {"classes": ABC}}, tuple(XYZ)),
        ({}, tuple(XYZ), {"classes": ABC}, tuple(XYZ)),
        ({}, tuple(XYZ), {}, tuple(XYZ)),
        ({}, None, {"metainfo": {"classes": ABC}}, ABC),
        ({}, None, {"classes": ABC}, ABC),
        ({"classes": "names.txt"}, ABC, {}, ABC),
        ({"metainfo": {"classes": ("one",)}}, ABC, {}, ABC),  # another number: not this detector's
        ({}, None, {}, None),
    ],
)
def test_classes(dataset: dict[str, Any], known: Any, variables: dict[str, Any], expected: Any) -> None:
    config = plain()
    del config["metainfo"]
    del config["test_dataloader"]["dataset"]["metainfo"]
    config["test_dataloader"]["dataset"].update(dataset)
    config.update(variables)
    settings = settings_from_config(read_config(text_of(config)), known)
    assert settings == replace(SMALL_PARTS, classes=expected)


def test_settings_are_hashable_and_compare_by_value() -> None:
    assert len({SMALL_PARTS, replace(SMALL_PARTS, num_classes=3), replace(SMALL_PARTS, num_classes=4)}) == 2
