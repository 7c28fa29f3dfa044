"""Settings of the RoI head from its section: extractors, box heads and mask heads of every stage."""

from __future__ import annotations

from resnest_export.mmdet_config.network_sections import INITIALIZATION, coder_settings, norm_settings
from resnest_export.mmdet_config.settings import (
    BoxHeadSettings,
    MaskHeadSettings,
    NeckSettings,
    RoIExtractorSettings,
    RoIHeadSettings,
)
from resnest_export.mmdet_config.values import Value
from resnest_export.mmdet_config.view import ELSEWHERE, Nothing, View

SHARED_LAYERS = {"Shared2FCBBoxHead": (0, 2), "Shared4Conv1FCBBoxHead": (4, 1)}
"""Shared convolutions and fully connected layers of the box heads that fix them."""
BRANCHES = ("num_cls_convs", "num_cls_fcs", "num_reg_convs", "num_reg_fcs")


def roi_head_settings(view: View, neck: NeckSettings) -> tuple[RoIHeadSettings, int]:
    """Read `model.roi_head`; also return the number of classes."""
    cascade = view.type("StandardRoIHead", "CascadeRoIHead", what="RoI head") == "CascadeRoIHead"
    # train_cfg and test_cfg are the model's; stage_loss_weights are training's.
    view.inert(*INITIALIZATION, "stage_loss_weights", "train_cfg", "test_cfg")
    view.absent("shared_head")
    num_stages = view.integer("num_stages", None, high=20) if cascade else 1
    bbox_views = _per_stage(view, "bbox_roi_extractor", num_stages, cascade)
    bbox_extractors = tuple(_extractor_settings(extractor, neck) for extractor in bbox_views)
    head_views = _per_stage(view, "bbox_head", num_stages, cascade)
    heads = [
        _box_head_settings(head, neck, extractor) for head, extractor in zip(head_views, bbox_extractors, strict=True)
    ]
    num_classes = heads[0][1]
    for head, (_, count) in zip(head_views, heads, strict=True):
        if count != num_classes:
            head.refuse("num_classes", f"is {count}, but the first stage has {num_classes}: make them equal")
    mask_extractors: tuple[RoIExtractorSettings, ...] = ()
    mask_heads: tuple[MaskHeadSettings, ...] = ()
    if "mask_head" in view:
        mask_extractors = bbox_extractors  # as mmdetection does without an extractor of the mask's own
        if "mask_roi_extractor" in view:
            mask_views = _per_stage(view, "mask_roi_extractor", num_stages, cascade)
            mask_extractors = tuple(_extractor_settings(extractor, neck) for extractor in mask_views)
        mask_head_views = _per_stage(view, "mask_head", num_stages, cascade)
        mask_heads = tuple(_mask_head_settings(head, neck, num_classes) for head in mask_head_views)
        sizes = {e.output_size * h.upsample_factor for e, h in zip(mask_extractors, mask_heads, strict=True)}
        if len(sizes) > 1:
            view.refuse("mask_head", f"has maps of {sorted(sizes)} pixels: all stages must have the same")
    view.inert("mask_head", "mask_roi_extractor")  # None, or an extractor without a head
    view.done()
    box_heads = tuple(head for head, _ in heads)
    return RoIHeadSettings(cascade, bbox_extractors, box_heads, mask_extractors, mask_heads), num_classes


def _per_stage(view: View, key: str, num_stages: int, cascade: bool) -> list[View]:
    """Return one view per stage; in a cascade one dictionary may stand for all stages."""
    value = view.section.get(key)
    if not isinstance(value, (list, tuple)) or not cascade:
        return [view.view(key)] * num_stages
    views = view.views(key)
    if len(views) != num_stages:
        view.refuse(key, f"has {len(views)} entries for {num_stages} stages: make them equal")
        views = (views or [Nothing(view.path)])[:1] * num_stages
    return views


def _pair(view: View, key: str, default: int | None) -> int:
    """Read a size that may be written as a pair of equal numbers."""
    value: Value = view.value(key, default, 7)
    if isinstance(value, (list, tuple)) and len(value) == 2:
        if value[0] != value[1]:
            view.refuse(key, f"is {value!r}: the map must be square: {ELSEWHERE}")
        value = value[0]
    if type(value) is not int or not 1 <= value <= 128:
        view.refuse(key, f"is {value!r}: it must be a whole number from 1 to 128")
        return 7
    return value


def _extractor_settings(view: View, neck: NeckSettings) -> RoIExtractorSettings:
    view.type("SingleRoIExtractor", what="RoI extractor")
    view.inert(*INITIALIZATION)
    view.only("out_channels", neck.out_channels, default=neck.out_channels, advice="the neck gives that", required=True)
    layer = view.view("roi_layer")
    layer.type("RoIAlign", what="RoI layer")
    layer.only("aligned", True, default=True)
    layer.only("pool_mode", "avg", default="avg")
    layer.only("use_torchvision", False, default=False)
    size = _pair(layer, layer.renamed("output_size", "out_size"), None)
    sampling_ratio = layer.integer(layer.renamed("sampling_ratio", "sample_num"), 0, low=-1, high=64)
    layer.done()
    strides = view.numbers("featmap_strides", None)
    if len(strides) > neck.num_outs:
        view.refuse("featmap_strides", f"has {len(strides)} levels, but the neck gives {neck.num_outs}")
    if any(stride < 1 or stride != int(stride) for stride in strides):
        view.refuse("featmap_strides", f"is {strides}: strides must be whole numbers")
    settings = RoIExtractorSettings(
        output_size=size,
        sampling_ratio=max(sampling_ratio, 0),
        strides=tuple(map(int, strides)),
        finest_scale=view.number("finest_scale", 56.0, 1e-3, 1e6),
    )
    view.done()
    return settings


def _box_head_settings(view: View, neck: NeckSettings, extractor: RoIExtractorSettings) -> tuple[BoxHeadSettings, int]:
    kind = view.type("Shared4Conv1FCBBoxHead", "Shared2FCBBoxHead", "ConvFCBBoxHead", what="box head")
    # Boxes are decoded in the same way whatever the regression was trained with.
    view.inert(*INITIALIZATION, "loss_bbox", "reg_decoded_bbox")
    view.only("in_channels", neck.out_channels, default=256, advice="the neck gives that")
    view.only("with_avg_pool", False, default=False)
    view.only("with_cls", True, default=True)
    view.only("with_reg", True, default=True)
    view.absent("conv_cfg")
    size = _pair(view, "roi_feat_size", 7)
    if size != extractor.output_size:
        view.refuse("roi_feat_size", f"is {size}, but the RoI extractor gives {extractor.output_size}: make them equal")
    for key in ("reg_predictor_cfg", "cls_predictor_cfg"):
        if key in view:
            predictor = view.view(key)
            predictor.type("Linear", what="predictor")
            predictor.done()
    _softmax_loss(view)
    if kind in SHARED_LAYERS:
        num_convs, num_fcs = SHARED_LAYERS[kind]
    else:
        num_convs = view.integer("num_shared_convs", 0, low=0, high=64)
        num_fcs = view.integer("num_shared_fcs", 0, low=0, high=64)
        for key in BRANCHES:
            view.only(key, 0, default=0)
        if not num_convs + num_fcs:
            view.refuse("num_shared_fcs", "and num_shared_convs are 0: the head needs a layer")
    conv_out_channels = view.integer("conv_out_channels", 256)
    fc_out_channels = view.integer("fc_out_channels", 1024)
    norm = norm_settings(view)
    settings = BoxHeadSettings(
        num_shared_convs=num_convs,
        num_shared_fcs=num_fcs,
        conv_out_channels=conv_out_channels if num_convs else 0,
        fc_out_channels=fc_out_channels if num_fcs else 0,
        norm=norm if num_convs else None,
        class_agnostic=view.boolean("reg_class_agnostic", False),
        coder=coder_settings(view, (0.1, 0.1, 0.2, 0.2)),
    )
    num_classes = view.integer("num_classes", 80)
    view.done()
    return settings, num_classes


def _softmax_loss(view: View) -> None:
    """Refuse losses whose scores aren't a softmax over the classes and background."""
    if "loss_cls" not in view:
        view.inert("loss_cls")
        return
    loss = view.view("loss_cls")
    loss.type("CrossEntropyLoss", what="classification loss")
    loss.only("use_sigmoid", False, default=False)
    loss.only("use_mask", False, default=False)
    loss.inert("loss_weight", "class_weight", "reduction", "ignore_index", "avg_non_ignore")  # of training
    loss.done()


def _mask_head_settings(view: View, neck: NeckSettings, num_classes: int) -> MaskHeadSettings:
    view.type("FCNMaskHead", what="mask head")
    # Masks are a sigmoid whatever they were trained with; mmdetection doesn't use roi_feat_size.
    view.inert(*INITIALIZATION, "loss_mask", "roi_feat_size")
    view.only("in_channels", neck.out_channels, default=256, advice="the neck gives that")
    view.only("conv_kernel_size", 3, default=3)
    view.absent("conv_cfg")
    if "predictor_cfg" in view:
        predictor = view.view("predictor_cfg")
        predictor.type("Conv", "Conv2d", what="predictor")
        predictor.done()
    factor = 2
    if "upsample_cfg" in view:
        upsampling = view.view("upsample_cfg")
        upsampling.type("deconv", what="upsampling")
        factor = upsampling.integer("scale_factor", None, high=8)
        upsampling.done()
    class_agnostic = view.boolean("class_agnostic", False)
    count = view.integer("num_classes", 80)
    if count != num_classes and not class_agnostic:
        view.refuse("num_classes", f"is {count}, but the box head has {num_classes}: make them equal")
    num_convs = view.integer("num_convs", 4, low=0, high=64)
    norm = norm_settings(view)
    settings = MaskHeadSettings(
        num_convs=num_convs,
        conv_out_channels=view.integer("conv_out_channels", 256),
        norm=norm if num_convs else None,
        class_agnostic=class_agnostic,
        upsample_factor=factor,
    )
    view.done()
    return settings
