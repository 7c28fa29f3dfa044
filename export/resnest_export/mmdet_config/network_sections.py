"""Settings of the backbone, neck and RPN from their sections.

Keys that don't matter for inference are named where they are marked inert; mmdetection 3.3's constructors are the
reference for defaults.
"""

from __future__ import annotations

from typing import cast

from resnest_export.mmdet_config.settings import (
    BLOCKS,
    AnchorSettings,
    BackboneSettings,
    BatchNormSettings,
    BoxCoderSettings,
    NeckSettings,
    RPNSettings,
)
from resnest_export.mmdet_config.values import Section, Value, shortened
from resnest_export.mmdet_config.view import ELSEWHERE, View

INITIALIZATION = ("init_cfg", "pretrained")  # weights come from the checkpoint
BATCH_NORMS = ("BN", "SyncBN", "BN2d", "BatchNorm2d", "SyncBatchNorm")
Four = tuple[float, float, float, float]


def norm_settings(view: View, key: str = "norm_cfg", *, required: bool = False) -> BatchNormSettings | None:
    """Read `norm_cfg`; absent or None: no norm, or BN where there must be one."""
    if key not in view:
        view.inert(key)
        if required and key in view.section:
            view.refuse(key, "is None: the backbone needs BN or SyncBN")
        return BatchNormSettings() if required else None
    norm = view.view(key)
    norm.type(*BATCH_NORMS, what="norm")
    norm.inert("requires_grad", "momentum")  # of training
    norm.only("affine", True, default=True)
    norm.only("track_running_stats", True, default=True)
    eps = norm.number("eps", 1e-5, 0.0, 1.0)
    norm.done()
    return BatchNormSettings(eps)


def backbone_settings(view: View) -> BackboneSettings:
    """Read `model.backbone`."""
    view.type("ResNeSt", what="backbone")
    # Of training: which weights are updated, and how memory is saved.
    view.inert(*INITIALIZATION, "frozen_stages", "norm_eval", "with_cp", "zero_init_residual", "base_width")
    depth = view.only("depth", *BLOCKS, default=50, required=True)
    for key, value in (("in_channels", 3), ("num_stages", 4), ("groups", 1), ("style", "pytorch")):
        view.only(key, value, default=value)
    for key, values in (
        ("strides", (1, 2, 2, 2)),
        ("dilations", (1, 1, 1, 1)),
        ("out_indices", (0, 1, 2, 3)),
    ):
        view.only(key, values, default=values)
    view.absent("conv_cfg", "dcn", "plugins")
    view.inert("stage_with_dcn")  # without dcn
    base_channels = view.integer("base_channels", 64)
    stem_channels = view.integer("stem_channels", base_channels, low=2)
    settings = BackboneSettings(
        blocks=BLOCKS[depth],
        stem_channels=stem_channels,
        base_channels=base_channels,
        radix=view.only("radix", 1, 2, default=2),
        reduction_factor=view.integer("reduction_factor", 4),
        avg_down_stride=view.boolean("avg_down_stride", True),
        norm=norm_settings(view, required=True) or BatchNormSettings(),
    )
    view.done()
    return settings


def neck_settings(view: View, backbone: BackboneSettings, expected_channels: int = 256) -> NeckSettings:
    """Read `model.neck`; `expected_channels` are what the RPN head takes, in case the neck doesn't say its own."""
    view.type("FPN", what="neck")
    view.inert(*INITIALIZATION, "no_norm_on_lateral")  # without norm
    view.only("in_channels", backbone.out_channels, default=backbone.out_channels, advice="the backbone gives that")
    view.only("start_level", 0, default=0)
    view.only("end_level", -1, default=-1)  # the versions count others differently
    num_outs = view.only("num_outs", 4, 5, default=5, required=True)
    if num_outs == 5:  # otherwise there is no further level that they decide about
        view.only("add_extra_convs", False, default=False)
    view.inert("add_extra_convs", "extra_convs_on_inputs", "relu_before_extra_convs")
    view.absent("conv_cfg", "norm_cfg", "act_cfg")
    if "upsample_cfg" in view:
        upsampling = view.view("upsample_cfg")
        upsampling.only("mode", "nearest", default="nearest")
        upsampling.done()
    settings = NeckSettings(view.integer("out_channels", None, fallback=expected_channels), num_outs)
    view.done()
    return settings


def coder_settings(view: View, default_stds: Four) -> BoxCoderSettings:
    """Read `bbox_coder`; `default_stds` belong to the head that has none."""
    default = Section({"type": "DeltaXYWHBBoxCoder", "target_stds": default_stds})
    coder = view.view("bbox_coder", default)
    coder.type("DeltaXYWHBBoxCoder", what="box coder")
    coder.only("add_ctr_clamp", False, default=False)
    coder.inert("ctr_clamp")  # without add_ctr_clamp
    coder.only("use_box_type", False, default=False)
    settings = BoxCoderSettings(
        means=cast(Four, coder.numbers("target_means", (0.0,) * 4, 4)),
        stds=cast(Four, coder.numbers("target_stds", (1.0,) * 4, 4)),
        clip_border=coder.boolean("clip_border", True),
    )
    coder.done()
    return settings


def rpn_settings(view: View, neck: NeckSettings) -> RPNSettings:
    """Read `model.rpn_head`."""
    view.type("RPNHead", what="RPN head")
    # Boxes are decoded alike whatever the regression was trained with; train_cfg and test_cfg are the model's.
    view.inert(*INITIALIZATION, "loss_bbox", "reg_decoded_bbox", "train_cfg", "test_cfg")
    view.only("in_channels", neck.out_channels, default=neck.out_channels, advice="the neck gives that", required=True)
    view.only("num_classes", 1, default=1)
    view.only("num_convs", 1, default=1)
    if "loss_cls" in view:  # which loss it is doesn't matter, but its activation does
        loss = view.view("loss_cls")
        loss.only("use_sigmoid", True, default=loss.take("use_sigmoid", False), advice="softmax scores can't be built")
    settings = RPNSettings(
        feat_channels=view.integer("feat_channels", 256),
        anchors=_anchor_settings(view, neck),
        coder=coder_settings(view, (1.0,) * 4),
    )
    view.done()
    return settings


def _anchor_settings(view: View, neck: NeckSettings) -> AnchorSettings:
    default = Section(
        {"type": "AnchorGenerator", "scales": [8, 16, 32], "ratios": [0.5, 1.0, 2.0], "strides": [4, 8, 16, 32, 64]}
    )
    anchors = view.view("anchor_generator", default)
    anchors.type("AnchorGenerator", what="anchor generator")
    anchors.absent("centers")
    anchors.only("use_box_type", False, default=False)
    strides = _strides(anchors)
    if len(strides) != neck.num_outs:
        anchors.refuse("strides", f"has {len(strides)} levels, but the neck gives {neck.num_outs}: make them equal")
    base_sizes = anchors.numbers("base_sizes", strides)
    if len(base_sizes) != len(strides):
        anchors.refuse("base_sizes", f"has {len(base_sizes)} levels, but there are {len(strides)} strides")
    settings = AnchorSettings(
        strides=strides,
        base_sizes=base_sizes,
        scales=_scales(anchors),
        ratios=anchors.numbers("ratios", None),
        scale_major=anchors.boolean("scale_major", True),
        center_offset=anchors.number("center_offset", 0.0, 0.0, 1.0),
    )
    for key, values in (("scales", settings.scales), ("ratios", settings.ratios), ("base_sizes", base_sizes)):
        if min(values) <= 0:
            anchors.refuse(key, "must be greater than 0")
    anchors.done()
    return settings


def _strides(anchors: View) -> tuple[int, ...]:
    values = anchors.required("strides", [4, 8, 16, 32, 64])
    strides = tuple(map(_stride, values)) if isinstance(values, (list, tuple)) else ()
    if not strides or 0 in strides:
        anchors.refuse(
            "strides", f"is {shortened(values)}: strides must be whole numbers, the same in x and y: {ELSEWHERE}"
        )
        return (4, 8, 16, 32, 64)
    return strides


def _stride(value: Value) -> int:
    """Return a stride that may be written as a pair of equal numbers; 0 where it isn't one."""
    first, second = value if isinstance(value, (list, tuple)) and len(value) == 2 else (value, value)
    return first if type(first) is type(second) is int and first == second and first > 0 else 0


def _scales(anchors: View) -> tuple[float, ...]:
    if "scales" in anchors:
        if "octave_base_scale" in anchors and "scales_per_octave" in anchors:
            anchors.refuse("scales", "stands beside octave_base_scale: keep one of them")
        anchors.inert("octave_base_scale", "scales_per_octave")
        return anchors.numbers("scales", None)
    anchors.inert("scales")
    count = anchors.integer("scales_per_octave", None, high=100)
    base = anchors.number("octave_base_scale", None, 0.0, 1e6, fallback=1.0)
    return tuple(base * 2 ** (i / count) for i in range(count))
