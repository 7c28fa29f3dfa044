"""What can't be built is refused by its name, with what to do; every refusal of a configuration comes at once."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from resnest_core.errors import ConfigError
from resnest_export.mmdet_config import read_config, read_config_file, registered_code, settings_from_config
from tests.export.mmdet_config.texts import CONFIGS, MISSING, changed, plain, text_of

BGR = "bgr_cascade"
PIPELINE = "test_dataloader.dataset.pipeline"
LOAD = {"type": "LoadImageFromFile"}
RESIZE = {"type": "Resize", "scale": (1024, 640), "keep_ratio": True}
PACK = {"type": "PackDetInputs"}

MODEL: list[tuple[str, Any, str]] = [
    ("type", "RetinaNet", r"model.type .* is 'RetinaNet': this detector can't be built.*MaskRCNN"),
    ("type", MISSING, "model.type is missing: add it"),
    ("type", "HybridTaskCascade", "HybridTaskCascade"),
    ("type", "SCNet", "SCNet"),
    ("type", "DetectoRS", "this detector can't be built"),
    ("type", "mmyolo.MaskRCNN", "mmyolo.MaskRCNN"),
    ("backbone.type", "ResNet", "model.backbone .* is 'ResNet': this backbone can't be built, only ResNeSt"),
    ("backbone.type", "ResNeXt", "ResNeXt"),
    ("backbone.depth", 34, "model.backbone.depth .* is 34; supported is only 50 or 101 or 152 or 200"),
    ("backbone.depth", MISSING, "model.backbone.depth is missing: add it"),
    ("backbone.depth", "50", "model.backbone.depth .* is '50'; supported"),
    ("backbone.radix", 4, "model.backbone.radix .* is 4; supported is only 1 or 2"),
    ("backbone.radix", 1.5, "model.backbone.radix"),
    ("backbone.groups", 2, "model.backbone.groups"),
    ("backbone.style", "caffe", "model.backbone.style .* is 'caffe'; supported is only 'pytorch'"),
    ("backbone.strides", (1, 2, 2, 1), "model.backbone.strides"),
    ("backbone.dilations", (1, 1, 1, 2), "model.backbone.dilations"),
    ("backbone.out_indices", (1, 2, 3), "model.backbone.out_indices"),
    ("backbone.num_stages", 3, "model.backbone.num_stages"),
    ("backbone.in_channels", 4, "model.backbone.in_channels"),
    ("backbone.dcn", {"type": "DCNv2"}, "model.backbone.dcn .* can't be built: train the detector without it"),
    ("backbone.plugins", [{"cfg": {"type": "ContextBlock"}}], "model.backbone.plugins"),
    ("backbone.gcb", {"ratio": 0.1}, "model.backbone.gcb .* a key that isn't known"),
    ("backbone.conv_cfg", {"type": "ConvWS"}, "model.backbone.conv_cfg"),
    ("backbone.norm_cfg", {"type": "GN", "num_groups": 32}, "model.backbone.norm_cfg.type .* is 'GN': this norm"),
    ("backbone.norm_cfg", None, "model.backbone.norm_cfg .* the backbone needs BN or SyncBN"),
    ("backbone.norm_cfg.affine", False, "model.backbone.norm_cfg.affine"),
    ("backbone.reduction_factor", 0, "model.backbone.reduction_factor"),
    ("backbone.deep_stem", False, "model.backbone.deep_stem"),
    ("neck.type", MISSING, "model.neck.type is missing: add it"),
    ("neck.type", "PAFPN", "model.neck.type .* is 'PAFPN': this neck can't be built, only FPN"),
    ("neck", [{"type": "FPN"}, {"type": "BFP"}], r"model.neck is \[.*\]: it must be a dictionary"),
    ("neck", MISSING, "model.neck is missing: add it"),
    ("neck.num_outs", 6, "model.neck.num_outs .* is 6; supported is only 4 or 5"),
    ("neck.start_level", 1, "model.neck.start_level"),
    ("neck.end_level", 3, "model.neck.end_level"),
    ("neck.add_extra_convs", "on_output", "model.neck.add_extra_convs"),
    ("neck.norm_cfg", {"type": "SyncBN"}, "model.neck.norm_cfg"),
    ("neck.upsample_cfg", {"mode": "bilinear"}, "model.neck.upsample_cfg.mode"),
    ("neck.in_channels", [128, 256, 512, 1024], "model.neck.in_channels .* the backbone gives that"),
    ("rpn_head.type", "GARPNHead", "model.rpn_head.type .* this RPN head can't be built"),
    ("rpn_head.num_convs", 2, "model.rpn_head.num_convs"),
    ("rpn_head.in_channels", 128, "model.rpn_head.in_channels .* the neck gives that"),
    ("rpn_head.loss_cls", {"type": "CrossEntropyLoss"}, "model.rpn_head.loss_cls.use_sigmoid.* softmax"),
    ("rpn_head.loss_cls.use_sigmoid", False, "model.rpn_head.loss_cls.use_sigmoid.* softmax"),
    ("rpn_head.bbox_coder.type", "TBLRBBoxCoder", "model.rpn_head.bbox_coder.type .* this box coder"),
    ("rpn_head.bbox_coder.add_ctr_clamp", True, "model.rpn_head.bbox_coder.add_ctr_clamp"),
    ("rpn_head.bbox_coder.target_stds", [1, 1], r"target_stds .* must be a list of 4 numbers"),
    ("rpn_head.anchor_generator.type", "LegacyAnchorGenerator", "this anchor generator can't be built"),
    ("rpn_head.anchor_generator.centers", [(0, 0)] * 5, "model.rpn_head.anchor_generator.centers"),
    ("rpn_head.anchor_generator.strides", [4, 8], "strides .* has 2 levels, but the neck gives 5"),
    ("rpn_head.anchor_generator.strides", [4, 8, 16, 32, (64, 32)], "the same in x and y"),
    ("rpn_head.anchor_generator.base_sizes", [4, 8], "base_sizes .* has 2 levels"),
    ("rpn_head.anchor_generator.scales", [], "scales .* must be a list"),
    ("rpn_head.anchor_generator.scales", (), r"scales .* is \(\): it must be a list of some numbers"),
    ("rpn_head.anchor_generator.scales", [0], "scales .* must be greater than 0"),
    ("rpn_head.anchor_generator.ratios", [], r"ratios .* is \[\]: it must be a list of some numbers"),
    ("rpn_head.anchor_generator.ratios", (), r"ratios .* is \(\): it must be a list of some numbers"),
    ("rpn_head.anchor_generator.ratios", MISSING, "ratios is missing: add it"),
    ("rpn_head.anchor_generator.ratios", [-1.0], "ratios .* must be greater than 0"),
    ("rpn_head.anchor_generator.center_offset", 1.5, "must be a number from 0 to 1"),
    ("roi_head.type", "PointRendRoIHead", "model.roi_head.type .* this RoI head can't be built"),
    ("roi_head.shared_head", {"type": "ResLayer"}, "model.roi_head.shared_head"),
    ("roi_head.mask_iou_head", {"type": "MaskIoUHead"}, "model.roi_head.mask_iou_head"),
    ("roi_head.num_stages", 3, "model.roi_head.num_stages .* a key that isn't known"),
    ("roi_head.bbox_roi_extractor.type", "GenericRoIExtractor", "this RoI extractor can't be built"),
    ("roi_head.bbox_roi_extractor.out_channels", 128, "bbox_roi_extractor.out_channels .* the neck gives that"),
    ("roi_head.bbox_roi_extractor.featmap_strides", [4, 8, 16, 32, 64, 128], "has 6 levels, but the neck gives 5"),
    ("roi_head.bbox_roi_extractor.featmap_strides", (), r"featmap_strides .* is \(\): it must be a list"),
    ("roi_head.bbox_roi_extractor.roi_layer.output_size", MISSING, "roi_layer.output_size is missing: add it"),
    ("roi_head.bbox_roi_extractor.roi_layer.type", MISSING, "roi_layer.type is missing: add it"),
    ("roi_head.bbox_roi_extractor.roi_layer.type", "RoIPool", "this RoI layer can't be built"),
    ("roi_head.bbox_roi_extractor.roi_layer.aligned", False, "roi_layer.aligned"),
    ("roi_head.bbox_roi_extractor.roi_layer.pool_mode", "max", "roi_layer.pool_mode"),
    ("roi_head.bbox_roi_extractor.roi_layer.output_size", (7, 14), "the map must be square"),
    ("roi_head.bbox_roi_extractor.roi_layer.output_size", 14, "roi_feat_size .* is 7, but the RoI extractor gives 14"),
    ("roi_head.bbox_roi_extractor.roi_layer.out_size", 14, "out_size .* and output_size contradict each other"),
    ("roi_head.bbox_head.type", "DoubleConvFCBBoxHead", "this box head can't be built"),
    ("roi_head.bbox_head.type", "SABLHead", "this box head can't be built"),
    ("roi_head.bbox_head.num_shared_convs", 2, "num_shared_convs .* a key that isn't known"),
    ("roi_head.bbox_head.with_avg_pool", True, "model.roi_head.bbox_head.with_avg_pool"),
    ("roi_head.bbox_head.with_reg", False, "model.roi_head.bbox_head.with_reg"),
    ("roi_head.bbox_head.conv_cfg", {"type": "ConvWS"}, "model.roi_head.bbox_head.conv_cfg"),
    ("roi_head.bbox_head.cls_predictor_cfg", {"type": "NormedLinear"}, "cls_predictor_cfg.type"),
    ("roi_head.bbox_head.loss_cls.use_sigmoid", True, "bbox_head.loss_cls.use_sigmoid"),
    ("roi_head.bbox_head.loss_cls.type", "SeesawLoss", "this classification loss can't be built"),
    ("roi_head.bbox_head.loss_cls.custom_cls_channels", True, "custom_cls_channels"),
    ("roi_head.bbox_head.bbox_coder.type", "BucketingBBoxCoder", "this box coder can't be built"),
    ("roi_head.bbox_head.norm_cfg", {"type": "GN", "num_groups": 32}, "bbox_head.norm_cfg.type .* is 'GN'"),
    ("roi_head.mask_head.type", "HTCMaskHead", "this mask head can't be built"),
    ("roi_head.mask_head.num_classes", 80, "mask_head.num_classes .* is 80, but the box head has 3"),
    ("roi_head.mask_head.conv_kernel_size", 5, "mask_head.conv_kernel_size"),
    ("roi_head.mask_head.upsample_cfg", {"type": "carafe", "scale_factor": 2}, "this upsampling can't be built"),
    ("roi_head.mask_head.upsample_cfg", {"type": "deconv"}, "upsample_cfg.scale_factor is missing"),
    ("roi_head.mask_head.predictor_cfg", {"type": "NormedConv2d"}, "predictor_cfg.type"),
    ("test_cfg", MISSING, "model.test_cfg is missing: add it"),
    ("test_cfg.rpn.nms_pre", MISSING, "model.test_cfg.rpn.nms_pre is missing"),
    ("test_cfg.rpn.nms_pre", -1, "nms_pre"),
    ("test_cfg.rpn.max_per_img", MISSING, "model.test_cfg.rpn.max_per_img is missing"),
    ("test_cfg.rpn.nms", MISSING, "model.test_cfg.rpn.nms is missing: add it"),
    ("test_cfg.rpn.max_num", 100, "max_num .* is 100, but max_per_img is 500"),
    ("test_cfg.rpn.nms_thr", 0.5, "nms_thr .* contradicts nms.iou_threshold, which is 0.8"),
    ("test_cfg.rpn.nms_across_levels", True, "nms_across_levels"),
    ("test_cfg.rpn.nms", {"type": "soft_nms"}, "this NMS of the RPN can't be built"),
    ("test_cfg.rpn.nms.class_agnostic", True, "NMS across levels"),
    ("test_cfg.rcnn.nms", MISSING, "model.test_cfg.rcnn.nms is missing"),
    ("test_cfg.rcnn.nms", {"type": "nms"}, "model.test_cfg.rcnn.nms.iou_threshold is missing"),
    ("test_cfg.rcnn.nms.type", "nms_match", "this NMS can't be built, only nms or soft_nms"),
    ("test_cfg.rcnn.nms.iou_thr", 0.5, "nms.iou_thr .* and iou_threshold contradict each other: delete iou_thr"),
    ("test_cfg.rcnn.nms.offset", 1, "nms.offset"),
    ("test_cfg.rcnn.nms.max_num", 10, "nms.max_num .* use max_per_img"),
    ("test_cfg.rcnn.nms.score_threshold", 0.2, "score_threshold .* use score_thr"),
    ("test_cfg.rcnn.nms", {"type": "soft_nms", "method": "cubic"}, "nms.method .* 'linear' or 'gaussian' or 'naive'"),
    ("test_cfg.rcnn.nms", {"type": "soft_nms", "sigma": 0}, "nms.sigma"),
    ("test_cfg.rcnn.score_thr", MISSING, "model.test_cfg.rcnn.score_thr is missing"),
    ("test_cfg.rcnn.max_per_img", 1001, "max_per_img .* must be a whole number from 1 to 1000"),
    ("test_cfg.rcnn.max_per_img", -1, "max_per_img"),
    ("test_cfg.rcnn.mask_thr_binary", MISSING, "model.test_cfg.rcnn.mask_thr_binary is missing"),
    ("test_cfg.rcnn.mask_thr_binary", -1, "mask_thr_binary"),
    ("test_cfg.rcnn", [{"score_thr": 0.1}], "model.test_cfg.rcnn is .*: it must be a dictionary"),
    ("test_cfg.rcnn.stages", 2, "model.test_cfg.rcnn.stages .* a key that isn't known"),
    ("data_preprocessor", MISSING, "model.data_preprocessor is missing"),
    ("data_preprocessor.type", "ImgDataPreprocessor", "this data preprocessor can't be built"),
    ("data_preprocessor.pad_value", 114, "data_preprocessor.pad_value"),
    ("data_preprocessor.std", [1, 0, 1], "data_preprocessor.std .* must be greater than 0"),
    ("data_preprocessor.std", MISSING, "data_preprocessor.mean .* and std belong together"),
    ("data_preprocessor.mean", [1], "must be a list of 3 numbers"),
    ("data_preprocessor.rgb_to_bgr", True, "rgb_to_bgr .* and bgr_to_rgb are both True"),
    ("semantic_head", {"type": "X"}, "model.semantic_head .* a key that isn't known here: delete it if"),
    ("_scope_", "mmyolo", "its types are another project's"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "message"), MODEL, ids=[f"{r[0]}={r[1]}"[:60] for r in MODEL])
def test_refused_by_name(path: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        changed(f"model.{path}", value)
    assert "\n" not in str(caught.value), "one change, one refusal"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model.roi_head.num_stages", 2, r"bbox_head .* has 3 entries for 2 stages"),
        ("model.roi_head.mask_head", [], r"^model.roi_head.mask_head .* 0 entries for 3 stages: make them equal\.$"),
        ("model.roi_head.num_stages", MISSING, "model.roi_head.num_stages is missing"),
        ("model.roi_head.bbox_head.1.num_classes", 3, r"bbox_head\[1\].num_classes .* the first stage has 2"),
        ("model.roi_head.bbox_head.2.type", "SABLHead", r"model.roi_head.bbox_head\[2\].type"),
        ("model.roi_head.type", "StandardRoIHead", r"model.roi_head.bbox_head is \[.*must be a dictionary"),
    ],
)
def test_stages(path: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        changed(path, value, BGR)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([LOAD, RESIZE, {"type": "Albu"}], r"pipeline\[2\].type .* is 'Albu': this step of a test pipeline"),
        ([LOAD, RESIZE, {"type": "TestTimeAug", "transforms": []}], "TestTimeAug"),
        ([LOAD, RESIZE, {"type": "RandomFlip", "prob": 0.5}], r"pipeline\[2\].prob"),
        ([LOAD, RESIZE, {"type": "Normalize", "mean": [0] * 3, "std": [1] * 3}], "Normalize beside the data prepro"),
        ([LOAD, RESIZE, RESIZE], "the step Resize more than once"),
        ([LOAD, {"type": "Pad", "size": (9, 9)}, RESIZE], "put Pad after Resize"),
        ([LOAD, PACK], "has no step Resize with a scale"),
        ([LOAD, {**RESIZE, "scale_factor": 0.5}], "scale_factor"),
        ([LOAD, {**RESIZE, "backend": "pillow"}], "backend"),
        ([LOAD, {**RESIZE, "interpolation": "nearest"}], "interpolation"),
        ([LOAD, {**RESIZE, "scale": (1024.5, 640)}], "two whole numbers"),
        ([LOAD, {**RESIZE, "scale": [(1024, 640), (512, 512)]}], "has 2 scales, which is test-time augmentation"),
        ([{**LOAD, "to_float32": True}, RESIZE], "to_float32"),
        ([{**LOAD, "color_type": "unchanged"}, RESIZE], "color_type"),
        ([{**LOAD, "imdecode_backend": "pillow"}, RESIZE], "imdecode_backend"),
        ([LOAD, RESIZE, {"type": "Pad", "size_divisor": 32}], "use the data preprocessor's pad_size_divisor"),
        ([LOAD, RESIZE, {"type": "Pad", "pad_to_square": True, "size": (9, 9)}], "pad_to_square"),
        ([LOAD, RESIZE, {"type": "Pad", "size": (9, 9), "padding_mode": "edge"}], "padding_mode"),
        ([LOAD, RESIZE, {"type": "Pad", "size": (9, 9), "pad_val": {"img": 300}}], "pad_val"),
        (["LoadImageFromFile"], "a step must be a dictionary"),
        ({"type": "Resize"}, "is missing or isn't a list"),
    ],
)
def test_steps_of_the_test_pipeline(steps: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        changed(PIPELINE, steps)


def aug(**changes: Any) -> list[Any]:
    transforms = [
        {"type": "Resize"},
        {"type": "Normalize", "mean": [1, 2, 3], "std": [4, 5, 6]},
        {"type": "Pad", "size_divisor": 32},
    ]
    return [LOAD, {"type": "MultiScaleFlipAug", "img_scale": (9, 9), "transforms": transforms, **changes}]


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (aug(flip=True), "flip .* test-time augmentation can't be built, set it to False"),
        (aug(img_scale=[(9, 9), (8, 8)]), "test-time augmentation: keep one scale"),
        (aug(scale_factor=2.0), "scale_factor"),
        (aug(transforms=[{"type": "Resize"}, {"type": "Pad", "size_divisor": 32}]), "no step Normalize"),
        (
            aug(transforms=[{"type": "Resize"}, {"type": "Pad", "size_divisor": 2}, aug()[1]["transforms"][1]]),
            "pads before it normalises",
        ),
        (aug(transforms=[*aug()[1]["transforms"][:2], {"type": "Pad", "size": (9, 9), "pad_val": 5}]), "pad_val"),
        (aug(transforms=[*aug()[1]["transforms"][:2], {"type": "Pad"}]), "size_divisor is missing"),
        (aug(new=1), r"pipeline\[1\].new .* a key that isn't known"),
    ],
)
def test_steps_of_mmdetection_2(steps: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        changed("data.test.pipeline", steps, file="config_v2.py")


@pytest.mark.parametrize(
    ("path", "value", "file", "message"),
    [
        ("tta_model", {"type": "DetTTAModel"}, "config.py", "tta_model .* can't be built"),
        ("test_cfg", {"rpn": {}, "rcnn": {}}, "config.py", "test_cfg .* stands beside model.test_cfg: keep one"),
        ("model.test_cfg", {"rpn": {}, "rcnn": {}}, "config_v2.py", "test_cfg .* stands beside model.test_cfg"),
        ("model", MISSING, "config.py", "model is missing: add it"),
        ("test_cfg.rpn.nms_post", 100, "config_v2.py", "nms_post .* is 100, but max_num is 500, and versions"),
        ("test_dataloader.dataset.metainfo", {"classes": ("a", "b", "a")}, "config.py", "'a' is named twice"),
    ],
)
def test_variables_beside_the_model(path: str, value: Any, file: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        changed(path, value, file=file)


def test_number_of_classes_must_fit_the_names() -> None:
    config = plain()
    del config["metainfo"]
    config["test_dataloader"]["dataset"]["metainfo"]["classes"] = ("a", "b")
    with pytest.raises(ConfigError, match=r"names 2 classes, but the box head's num_classes is 3"):
        settings_from_config(read_config(text_of(config)))


def test_data_preprocessor_beside_the_model() -> None:
    config = plain()
    config["data_preprocessor"] = config["model"].pop("data_preprocessor")
    with pytest.raises(ConfigError, match="move it into the model"):
        settings_from_config(read_config(text_of(config)))


def test_all_refusals_come_at_once_with_their_places() -> None:
    text = (CONFIGS / "small_parts" / "config.py").read_text()
    text = (
        text.replace("depth=50", "depth=26").replace("type='FPN'", "type='PAFPN'").replace("num_convs=4", "num_convs=n")
    )
    with pytest.raises(ConfigError) as caught:
        settings_from_config(read_config(text, "own.py"))
    refusals = caught.value.refusals
    assert [refusal.split()[0] for refusal in refusals] == [
        "model.backbone.depth",
        "model.neck.type",
        "model.roi_head.mask_head.num_convs",
    ]
    lines = {number for number, line in enumerate(text.splitlines(), 1) if "depth=26" in line or "PAFPN" in line}
    assert all(f"(own.py, line {number})" in str(caught.value) for number in lines)
    assert str(caught.value).startswith("3 settings of the configuration can't be used:\n  model.backbone.depth")
    copied = pickle.loads(pickle.dumps(caught.value))
    assert (str(copied), copied.refusals) == (str(caught.value), refusals)


def test_what_is_not_known_is_refused_only_where_it_is_needed() -> None:
    text = (CONFIGS / "small_parts" / "config_v2.py").read_text()
    whole = settings_from_config(read_config(text))
    assert settings_from_config(read_config(text.replace("lr=0.02", "lr=rate()"))) == whole
    with pytest.raises(ConfigError, match=r"test_cfg.rcnn.score_thr .* can't be known.*rate\(\) is a call.*write its"):
        settings_from_config(read_config(text.replace("score_thr=0.1", "score_thr=rate()")))
    with pytest.raises(ConfigError, match=r"anchor_generator.scales .*can't be known.*math.sqrt\(16\).*line 13"):
        settings_from_config(read_config(text.replace("scales=[4]", "scales=[math.sqrt(16)]")))


def test_imported_modules_are_noted() -> None:
    config = read_config("custom_imports = dict(imports=['my_project.heads'])")
    assert "my_project.heads" in str(registered_code(config))
    assert registered_code(read_config_file(CONFIGS / BGR / "config.py")) == []
