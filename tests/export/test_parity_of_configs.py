"""Parity with mmdetection 3.3 of detectors that configurations of their own describe."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from resnest_core import load_detector
from resnest_core.card import ModelCard
from resnest_core.detections import Detections
from resnest_core.images import load_image
from resnest_core.masks import rle
from resnest_core.preprocess import prepare, stack
from resnest_core.repository import network_path
from resnest_export.checkpoint import Checkpoint
from resnest_export.deployed_detector import DeployedDetector
from resnest_export.mmdet_config import DetectorSettings, read_config_file, settings_from_config
from resnest_export.models import DetectorConfig, build
from resnest_export.models.detector import TwoStageDetector
from resnest_export.pipeline import make_card
from resnest_export.to_onnx import export_onnx
from tests.data.parity import compare, fill
from tests.export import goldens
from tests.weights import DATA

CONFIGS = DATA / "configs"
NAMES = ("small_parts", "two_fc_soft", "bgr_cascade")
PHOTOGRAPHS = ("000000168974", "000000208901", "000000311303")


@functools.lru_cache
def settings_of(name: str) -> DetectorSettings:
    return settings_from_config(read_config_file(CONFIGS / name / "config.py"))


def keys_of(name: str) -> dict[str, tuple[int, ...]]:
    return {key: tuple(shape) for key, shape in json.loads((CONFIGS / name / "keys.json").read_text()).items()}


def built(name: str, monkeypatch: pytest.MonkeyPatch) -> TwoStageDetector:
    monkeypatch.setattr(fill, "CLASSIFIERS", json.loads((CONFIGS / "classifiers.json").read_text()))
    detector = build(settings_of(name))
    weights = {key: torch.from_numpy(fill.fill(name, key, shape)) for key, shape in keys_of(name).items()}
    detector.load_state_dict(weights)
    return detector


def card_of(name: str) -> ModelCard:
    settings = settings_of(name)
    assert settings.classes is not None
    ids = tuple(range(1, settings.num_classes + 1))
    checkpoint = Checkpoint({}, None, "0" * 64)
    return make_card(DetectorConfig(name, settings), settings.classes, ids, checkpoint, Path("kit.pth"))


def assert_agrees(name: str, photograph: str, answer: goldens.Golden) -> None:
    """Hold an answer against the kit's limits, at the configuration's own threshold and number of detections."""
    with np.load(CONFIGS / name / "golden" / f"{photograph}.npz") as file:
        golden = dict(file)
    test = settings_of(name).test_rcnn
    threshold = test.score_thr if test.nms.min_score is None else test.nms.min_score
    figures = compare.agreement(golden, answer, threshold=threshold, most=test.max_per_img)
    print(name, photograph, figures)
    assert figures["found"] >= compare.LOWEST["found"], figures
    assert figures["extra"] <= compare.EXTRA, figures
    assert figures.get("mask_iou", 1.0) >= compare.LOWEST["mask_iou"], figures


def as_answer(detections: Detections, card: ModelCard) -> goldens.Golden:
    answer: dict[str, NDArray[Any]] = {
        "boxes": detections.boxes_xyxy,
        "scores": detections.scores,
        "labels": detections.labels,
    }
    if detections.masks is not None:
        pasted = [
            rle(mask, box, detections.image_size_hw, threshold=card.mask_threshold)["counts"]
            for mask, box in zip(detections.masks, detections.boxes_xyxy, strict=True)
        ]
        answer |= {"mask_rle": np.array(pasted, str), "image_size_hw": np.array(detections.image_size_hw)}
    return answer


@pytest.mark.parametrize("name", NAMES)
def test_keys_and_shapes_are_mmdetections(name: str) -> None:
    with torch.device("meta"):
        ours = {key: tuple(value.shape) for key, value in build(settings_of(name)).state_dict().items()}
    assert ours == keys_of(name)


@pytest.fixture(scope="module", params=NAMES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Export a configuration's detector, after it has answered in PyTorch what mmdetection answered."""
    name: str = request.param
    card, repository = card_of(name), tmp_path_factory.mktemp(name)
    with pytest.MonkeyPatch.context() as monkeypatch:
        detector = built(name, monkeypatch)
    for photograph in PHOTOGRAPHS[1:2]:  # the runtimes see all of them
        image = prepare(load_image(goldens.photograph_path(photograph)), card)
        inputs = [torch.from_numpy(array) for array in stack([image]).values()]
        with torch.inference_mode():
            outputs = DeployedDetector(detector, card)(*inputs, torch.zeros(1, 1))
        assert_agrees(name, photograph, as_answer(goldens.unpacked(outputs, image), card))
    path = network_path(repository, name)
    path.parent.mkdir(parents=True)
    export_onnx(detector, card, path)
    yield name, repository
    path.unlink()  # hundreds of megabytes, that pytest would keep


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_exported(exported: tuple[str, Path], runtime: str) -> None:
    name, repository = exported
    with load_detector(name, repository=repository, runtime=runtime) as detector:
        for photograph in PHOTOGRAPHS:
            answer = detector.detect(goldens.photograph_path(photograph))
            assert_agrees(name, photograph, as_answer(answer, detector.card))
