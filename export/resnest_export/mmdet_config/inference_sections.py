"""Settings of `test_cfg`: from anchors to proposals, and from box heads to detections."""

from __future__ import annotations

from resnest_export.mmdet_config.settings import NMSSettings, RCNNTestSettings, RPNTestSettings
from resnest_export.mmdet_config.view import View

MAX_DETECTIONS = 1000
MAX_PROPOSALS = 100_000


def rpn_test_settings(view: View) -> RPNTestSettings:
    """Read `test_cfg.rpn`: mmdetection 3's keys, or 2's nms_thr, nms_post, max_num and nms_across_levels."""
    view.only("nms_across_levels", False, default=False)
    view.only("score_thr", 0, default=0)  # mmdetection's RPN doesn't read it
    view.inert("deploy_nms_pre")  # of mmdetection's own export
    settings = RPNTestSettings(
        nms_pre=view.integer("nms_pre", None, high=MAX_PROPOSALS),
        iou_threshold=_rpn_iou_threshold(view),
        max_per_img=_rpn_max_per_img(view),
        min_bbox_size=view.number("min_bbox_size", -1.0, -1.0, 1e6),
    )
    view.done()
    return settings


def _rpn_iou_threshold(view: View) -> float:
    if "nms" not in view:
        view.inert("nms")
        if "nms_thr" not in view:
            view.required("nms", None)
            return 0.7
        return view.number("nms_thr", None, 0.0, 1.0, fallback=0.7)
    nms = view.view("nms")
    nms.type("nms", what="NMS of the RPN", default="nms")
    settings = nms_settings(nms)
    if settings.class_agnostic:
        nms.refuse("class_agnostic", "is True: NMS across levels can't be built, delete it")
    if "nms_thr" in view and view.number("nms_thr", None, 0.0, 1.0) != settings.iou_threshold:
        view.refuse("nms_thr", f"contradicts nms.iou_threshold, which is {settings.iou_threshold:g}: delete nms_thr")
    view.inert("nms_thr")
    return settings.iou_threshold


def _rpn_max_per_img(view: View) -> int:
    names = [name for name in ("max_per_img", "max_num", "nms_post") if name in view]
    view.inert("max_num", "nms_post")
    counts = {name: view.integer(name, None, high=MAX_PROPOSALS) for name in names or ["max_per_img"]}
    first = next(iter(counts))
    for name, count in counts.items():
        if count != counts[first]:
            view.refuse(
                name, f"is {count}, but {first} is {counts[first]}, and versions of mmdetection differ: make them equal"
            )
    return counts[first]


def rcnn_test_settings(view: View, *, has_masks: bool) -> RCNNTestSettings:
    """Read `test_cfg.rcnn`."""
    mask_thr_binary = view.number("mask_thr_binary", None, 0.0, 1.0, fallback=0.5) if has_masks else None
    view.inert("mask_thr_binary")  # without masks
    nms = view.view("nms")
    kind = nms.type("nms", "soft_nms", what="NMS", default="nms")
    settings = RCNNTestSettings(
        score_thr=view.number("score_thr", None, 0.0, 1.0, fallback=0.05),
        nms=soft_nms_settings(nms) if kind == "soft_nms" else nms_settings(nms),
        max_per_img=view.integer("max_per_img", None, high=MAX_DETECTIONS),
        mask_thr_binary=mask_thr_binary,
    )
    view.done()
    return settings


def nms_settings(view: View) -> NMSSettings:
    """Read the section of mmcv's `nms`."""
    view.only("score_threshold", 0, default=0, advice="use score_thr")
    view.only("max_num", -1, default=-1, advice="use max_per_img")
    settings = NMSSettings(type="nms", iou_threshold=_iou_threshold(view, None), class_agnostic=_class_agnostic(view))
    view.done()
    return settings


def soft_nms_settings(view: View) -> NMSSettings:
    """Read the section of mmcv's `soft_nms`, with mmcv's defaults."""
    settings = NMSSettings(
        type="soft_nms",
        iou_threshold=_iou_threshold(view, 0.3),
        class_agnostic=_class_agnostic(view),
        method=view.only("method", "linear", "gaussian", "naive", default="linear"),
        sigma=view.number("sigma", 0.5, 1e-6, 1e6),
        min_score=view.number("min_score", 1e-3, 0.0, 1.0),
    )
    view.done()
    return settings


def _iou_threshold(view: View, default: float | None) -> float:
    view.only("offset", 0, default=0)
    return view.number(view.renamed("iou_threshold", "iou_thr"), default, 0.0, 1.0, fallback=0.5)


def _class_agnostic(view: View) -> bool:
    class_agnostic = view.boolean("class_agnostic", False)
    if class_agnostic and "split_thr" in view:
        view.refuse("split_thr", "makes class-agnostic NMS depend on the number of boxes: delete it")
    view.inert("split_thr")  # how mmcv saves memory
    return class_agnostic
