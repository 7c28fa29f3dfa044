"""Settings of preprocessing from the test pipeline, and in mmdetection 3 from the data preprocessor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, cast

from resnest_export.mmdet_config.settings import PadSettings, PreprocessingSettings
from resnest_export.mmdet_config.values import Section, Unevaluated, Value, shortened
from resnest_export.mmdet_config.view import ELSEWHERE, Refusals, View, bare_type

Three = tuple[float, float, float]
ONES, ZEROS = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
MAX_SIDE = 16_384
LOADERS = ("LoadImageFromFile", "LoadImageFromNDArray", "LoadImageFromWebcam")
PACKING = ("PackDetInputs", "ImageToTensor", "DefaultFormatBundle", "Collect", "LoadAnnotations")
"""Steps that don't change the image."""


@dataclass
class _Steps:
    """What the steps of a pipeline say, in their order."""

    order: list[str] = field(default_factory=list)
    scale: tuple[int, int] | None = None
    keep_ratio: bool = True
    mean: Three = ZEROS
    std: Three = ONES
    to_rgb: bool = True
    size_divisor: int = 1
    pad: PadSettings | None = None

    def pads_before(self, name: str) -> bool:
        return "Pad" in self.order and name in self.order[self.order.index("Pad") :]


def preprocessing_3(preprocessor: View, pipeline: Value, path: str, refusals: Refusals) -> PreprocessingSettings:
    """Read mmdetection 3's `data_preprocessor` and test pipeline."""
    preprocessor.type("DetDataPreprocessor", what="data preprocessor")
    # Of training, or of targets that inference doesn't have.
    preprocessor.inert("pad_mask", "mask_pad_value", "pad_seg", "seg_pad_value", "batch_augments")
    preprocessor.inert("boxtype2tensor", "non_blocking")  # don't change the image
    preprocessor.only("pad_value", 0, default=0)
    if ("mean" in preprocessor) != ("std" in preprocessor):
        preprocessor.refuse("mean", "and std belong together: give both")
    bgr_to_rgb = preprocessor.boolean("bgr_to_rgb", False)
    rgb_to_bgr = preprocessor.boolean("rgb_to_bgr", False)
    if bgr_to_rgb and rgb_to_bgr:
        preprocessor.refuse("rgb_to_bgr", "and bgr_to_rgb are both True: keep one")
    mean, std = _mean_and_std(preprocessor, ZEROS, ONES)
    size_divisor = preprocessor.integer("pad_size_divisor", 1, high=1024)
    preprocessor.done()
    steps = _read_steps(pipeline, path, refusals, mmdet3=True)
    if "Normalize" in steps.order:
        refusals.add(f"{path} has a step Normalize beside the data preprocessor: keep one of them.")
    return PreprocessingSettings(
        mean=mean,
        std=std,
        channel_order=_channel_order(bgr_to_rgb or rgb_to_bgr),  # images are loaded as BGR: both swap
        scale=steps.scale or (1333, 800),
        keep_ratio=steps.keep_ratio,
        size_divisor=size_divisor,
        pad=steps.pad,
    )


def preprocessing_2(pipeline: Value, path: str, refusals: Refusals) -> PreprocessingSettings:
    """Read mmdetection 2's test pipeline, which also normalises and pads."""
    steps = _read_steps(pipeline, path, refusals, mmdet3=False)
    if "Normalize" not in steps.order:
        refusals.add(f"{path} has no step Normalize: add it with the mean and std of training.")
    if steps.pads_before("Normalize"):
        refusals.add(f"{path} pads before it normalises: put Pad after Normalize, as mmdetection 2's pipelines do.")
    return PreprocessingSettings(
        mean=steps.mean,
        std=steps.std,
        channel_order=_channel_order(steps.to_rgb),
        scale=steps.scale or (1333, 800),
        keep_ratio=steps.keep_ratio,
        size_divisor=steps.size_divisor,
        pad=steps.pad,
    )


def _channel_order(is_rgb: bool) -> Literal["rgb", "bgr"]:
    return "rgb" if is_rgb else "bgr"


def _mean_and_std(view: View, mean: Three | None, std: Three | None) -> tuple[Three, Three]:
    means = cast(Three, view.numbers("mean", mean, 3))
    stds = cast(Three, view.numbers("std", std, 3))
    if min(stds) <= 0:
        view.refuse("std", "must be greater than 0")
        stds = ONES
    return means, stds


def _read_steps(pipeline: Value, path: str, refusals: Refusals, *, mmdet3: bool) -> _Steps:
    steps = _Steps()
    if not isinstance(pipeline, (list, tuple)):
        found = f"can't be known ({pipeline})" if isinstance(pipeline, Unevaluated) else "is missing or isn't a list"
        refusals.add(f"{path} {found}: write the test pipeline's steps.")
        return steps
    for index, step in enumerate(pipeline):
        _read_step(step, f"{path}[{index}]", steps, refusals, mmdet3)
    if steps.scale is None:
        refusals.add(f"{path} has no step Resize with a scale: add it.")
    for name in ("Resize", "Normalize", "Pad"):
        if steps.order.count(name) > 1:
            refusals.add(f"{path} has the step {name} more than once: keep one.")
    if steps.pads_before("Resize"):
        refusals.add(f"{path} pads before it resizes: put Pad after Resize.")
    return steps


def _read_step(step: Value, path: str, steps: _Steps, refusals: Refusals, mmdet3: bool, in_aug: bool = False) -> None:
    if not isinstance(step, Section):
        refusals.add(f"{path} is {shortened(step)}: a step must be a dictionary; write its values.")
        return
    view = View(step, path, refusals)
    name = bare_type(view.take("type"))
    if name in LOADERS:
        _read_loader(view)
    elif name in PACKING:
        return  # with whatever keys
    elif name == "Resize":
        _read_resize(view, steps, mmdet3, in_aug)
    elif name == "Pad":
        (_read_pad_3 if mmdet3 else _read_pad_2)(view, steps)
    elif name == "Normalize":
        steps.mean, steps.std = _mean_and_std(view, None, None)
        steps.to_rgb = view.boolean("to_rgb", True)
    elif name == "RandomFlip":
        _read_flip(view, in_aug)
    elif name == "MultiScaleFlipAug" and not mmdet3 and not in_aug:
        _read_flip_aug(view, steps)
    else:
        view.refuse(
            "type", f"is {shortened(step.get('type'))}: this step of a test pipeline can't be built: {ELSEWHERE}"
        )
        return
    steps.order.append(name)
    view.done()


def _read_loader(view: View) -> None:
    view.inert("file_client_args", "backend_args", "ignore_empty")  # where files come from
    view.only("to_float32", False, default=False)
    view.only("color_type", "color", default="color")
    view.only("channel_order", "bgr", default="bgr")
    view.only("imdecode_backend", "cv2", default="cv2", advice="images are decoded as cv2 does")


def _read_resize(view: View, steps: _Steps, mmdet3: bool, in_aug: bool) -> None:
    view.inert("clip_object_border", "bbox_clip_border", "multiscale_mode", "override")  # of training
    view.only("backend", "cv2", default="cv2")
    view.only("interpolation", "bilinear", default="bilinear")
    view.absent("scale_factor", "ratio_range")
    steps.keep_ratio = view.boolean("keep_ratio", not mmdet3)  # the two versions' defaults differ
    if in_aug:
        view.inert("img_scale")  # MultiScaleFlipAug's is used
    else:
        steps.scale = _scale(view, "scale" if mmdet3 else "img_scale", steps.keep_ratio)


def _scale(view: View, key: str, keep_ratio: bool) -> tuple[int, int]:
    """Read a scale: (long, short) where the ratio is kept, else (width, height)."""
    value = view.required(key, (1333, 800))
    if isinstance(value, (list, tuple)) and len(value) == 1 and isinstance(value[0], (list, tuple)):
        value = value[0]
    if type(value) is int:
        value = (value, value)
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], (list, tuple)):
        view.refuse(key, f"has {len(value)} scales, which is test-time augmentation: keep one scale")
        return (1333, 800)
    sides = tuple(value) if isinstance(value, (list, tuple)) else ()
    if len(sides) != 2 or not all(type(side) is int and 1 <= side <= MAX_SIDE for side in sides):
        view.refuse(key, f"is {value!r}: it must be two whole numbers from 1 to {MAX_SIDE}")
        return (1333, 800)
    return (max(sides), min(sides)) if keep_ratio else (sides[0], sides[1])


def _read_pad_3(view: View, steps: _Steps) -> None:
    view.only("padding_mode", "constant", default="constant")
    view.only("pad_to_square", False, default=False)
    if "size_divisor" in view:
        view.refuse("size_divisor", "pads before normalisation: use the data preprocessor's pad_size_divisor instead")
    view.inert("size_divisor")
    size = _sides(view)
    fill = view.take("pad_val", 0)
    if isinstance(fill, Section):
        fill = fill.get("img", 0)
    values = tuple(fill) if isinstance(fill, (list, tuple)) else (fill,) * 3
    if len(values) != 3 or not all(type(value) in (int, float) and 0 <= value <= 255 for value in values):
        view.refuse("pad_val", f"is {shortened(fill)}: it must be one or three numbers from 0 to 255")
        values = ZEROS
    steps.pad = PadSettings((size[1], size[0]), True, cast(Three, tuple(map(float, values))))  # Pad has (w, h)


def _read_pad_2(view: View, steps: _Steps) -> None:
    view.only("pad_to_square", False, default=False)
    fill = view.take("pad_val", 0)
    if (fill.get("img", 0) if isinstance(fill, Section) else fill) != 0:
        view.refuse("pad_val", f"is {shortened(fill)}; supported is only 0: {ELSEWHERE}")
    if "size" in view:
        if "size_divisor" in view:
            view.refuse("size_divisor", "stands beside size: keep one of them")
        view.inert("size_divisor")
        steps.pad = PadSettings(_sides(view), False)  # mmdetection 2 has (h, w)
    else:
        view.inert("size")
        steps.size_divisor = view.integer("size_divisor", None, high=1024)


def _sides(view: View) -> tuple[int, int]:
    sides = view.numbers("size", None, 2)
    if any(side != int(side) or not 1 <= side <= MAX_SIDE for side in sides):
        view.refuse("size", f"is {sides}: it must be two whole numbers from 1 to {MAX_SIDE}")
        return (1, 1)
    return int(sides[0]), int(sides[1])


def _read_flip(view: View, in_aug: bool) -> None:
    view.inert("direction")
    if in_aug:  # MultiScaleFlipAug's own `flip` decides
        view.inert("flip_ratio", "prob")
    else:
        view.only("prob", 0, default=0)
        view.only("flip_ratio", 0, default=0)


def _read_flip_aug(view: View, steps: _Steps) -> None:
    view.only("flip", False, default=False, advice="test-time augmentation can't be built, set it to False")
    view.inert("flip_direction")
    view.absent("scale_factor")
    transforms = view.take("transforms", [])
    if not isinstance(transforms, (list, tuple)):
        view.refuse("transforms", "isn't a list: write its steps")
        transforms = []
    for index, step in enumerate(transforms):
        _read_step(step, f"{view.path}.transforms[{index}]", steps, view.refusals, False, in_aug=True)
    steps.scale = _scale(view, "img_scale", steps.keep_ratio)
