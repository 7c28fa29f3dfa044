"""Preprocessing settings from test pipelines of both styles; the two versions' defaults and orders of sides differ."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from resnest_export.mmdet_config import read_config, settings_from_config
from resnest_export.mmdet_config.settings import PadSettings
from tests.export.mmdet_config.texts import SMALL_PARTS, changed, plain, text_of

PIPELINE = "test_dataloader.dataset.pipeline"
RESIZE = {"type": "Resize", "scale": (800, 600), "keep_ratio": False}
LOAD = {"type": "LoadImageFromFile", "backend_args": None}


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([LOAD, RESIZE], {"scale": (800, 600), "keep_ratio": False}),
        ([LOAD, {"type": "Resize", "scale": (600, 800)}], {"scale": (600, 800), "keep_ratio": False}),  # width, height
        ([LOAD, {"type": "Resize", "scale": (600, 800), "keep_ratio": True}], {"scale": (800, 600)}),  # long, short
        ([LOAD, {"type": "mmdet.Resize", "scale": 640, "keep_ratio": True}], {"scale": (640, 640)}),
        (
            [LOAD, RESIZE, {"type": "Pad", "size": (1024, 768)}],  # width, height
            {"scale": (800, 600), "keep_ratio": False, "pad": PadSettings((768, 1024), True)},
        ),
        (
            [LOAD, RESIZE, {"type": "Pad", "size": (1024, 768), "pad_val": {"img": (114, 115, 116), "seg": 255}}],
            {"scale": (800, 600), "keep_ratio": False, "pad": PadSettings((768, 1024), True, (114, 115, 116))},
        ),
        ([LOAD, RESIZE, {"type": "RandomFlip", "prob": 0.0}], {"scale": (800, 600), "keep_ratio": False}),
    ],
)
def test_pipelines_of_mmdetection_3(steps: list[Any], expected: dict[str, Any]) -> None:
    settings = changed(PIPELINE, [*steps, {"type": "PackDetInputs", "meta_keys": ("img_id",)}])
    assert settings.preprocessing == replace(SMALL_PARTS.preprocessing, **{"keep_ratio": True, **expected})


NORMALIZE = {"type": "Normalize", "mean": [1, 2, 3], "std": [4, 5, 6], "to_rgb": False}
OWN = {"mean": (1, 2, 3), "std": (4, 5, 6), "channel_order": "bgr"}


@pytest.mark.parametrize(
    ("transforms", "expected"),
    [
        ([{"type": "Resize"}, NORMALIZE], {**OWN, "size_divisor": 1}),  # mmdetection 2 keeps the ratio by default
        ([{"type": "Resize", "keep_ratio": False}, NORMALIZE, {"type": "Pad", "size_divisor": 64}],
         {**OWN, "keep_ratio": False, "size_divisor": 64}),
        ([{"type": "Resize"}, {"type": "RandomFlip", "flip_ratio": 1}, NORMALIZE, {"type": "Pad", "size": (640, 1024)}],
         {**OWN, "size_divisor": 1, "pad": PadSettings((640, 1024), False)}),  # height, width
        ([{"type": "Resize"}, {"type": "Normalize", "mean": [1, 2, 3], "std": [4, 5, 6]}],
         {**OWN, "channel_order": "rgb", "size_divisor": 1}),
    ],
)  # fmt: skip
def test_pipelines_of_mmdetection_2(transforms: list[Any], expected: dict[str, Any]) -> None:
    steps = [LOAD, {"type": "MultiScaleFlipAug", "img_scale": [(1024, 640)], "transforms": transforms}]
    settings = changed("data.test.pipeline", steps, file="config_v2.py")
    assert settings.preprocessing == replace(SMALL_PARTS.preprocessing, **expected)


def test_pipeline_without_flip_augmentation_in_mmdetection_2() -> None:
    steps = [LOAD, {"type": "Resize", "img_scale": (900, 500)}, {"type": "RandomFlip", "flip_ratio": 0}, NORMALIZE]
    settings = changed("data.test.pipeline", steps, file="config_v2.py")
    assert settings.preprocessing.scale == (900, 500)


def test_data_set_wrappers_and_fallbacks() -> None:
    config = plain()
    whole = settings_from_config(read_config(text_of(config)))
    loader = config["test_dataloader"]
    dataset = loader["dataset"]
    loader["dataset"] = {"type": "ConcatDataset", "datasets": [{"type": "RepeatDataset", "dataset": dataset}]}
    assert settings_from_config(read_config(text_of(config))) == whole
    del config["test_dataloader"]  # the validation's
    assert settings_from_config(read_config(text_of(config))) == whole
    del config["val_dataloader"]  # the variable
    assert settings_from_config(read_config(text_of(config))) == whole


def test_the_data_loader_decides_not_the_variable() -> None:
    assert changed("test_pipeline", []) == SMALL_PARTS
    assert changed("test_pipeline", [], file="config_v2.py") == SMALL_PARTS
