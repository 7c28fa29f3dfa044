"""Parity with mmdetection 3.3: its answers on photographs, found again by PyTorch and by the exported files."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from resnest_core import load_detector
from resnest_core.repository import network_path
from resnest_export.models import ZOO, build
from resnest_export.models.detector import TwoStageDetector
from tests.data.parity import compare
from tests.export import goldens
from tests.weights import REPOSITORY, demo_state_dict, export_filled, filled

IN_CI = ("000000208901", "000000311303", "311303_panorama")  # nothing found, a full list, a strip


def cases(*detectors: str, quick: Sequence[str] = ()) -> pytest.MarkDecorator:
    """Parametrize a test by detector and photograph; what isn't quick is slow."""
    return pytest.mark.parametrize(
        ("name", "photograph"),
        [
            pytest.param(name, photograph, marks=() if name in quick and photograph in IN_CI else pytest.mark.slow)
            for name in detectors
            for photograph in goldens.names(name)
        ],
    )


demo_cases = pytest.mark.parametrize("photograph", goldens.names("demo"))


@functools.lru_cache(maxsize=1)
def detector_of(name: str) -> TwoStageDetector:
    """Return a detector with the kit's weights; for the demo, with those of the committed file."""
    if name != "demo":
        return filled(name)
    detector = build(ZOO["demo"])
    detector.load_state_dict(demo_state_dict())
    return detector


def assert_pytorch_agrees(name: str, photograph: str) -> None:
    detector, golden = detector_of(name), goldens.load(name, photograph)
    detections, seen = goldens.run_pytorch(detector, name, goldens.photograph_path(photograph))
    print(f"{name} {photograph} features {goldens.assert_features_agree(golden, seen):.1e}")
    goldens.assert_proposals_agree(golden, seen["proposals"])
    goldens.assert_box_heads_agree(golden, detector, seen["neck"])
    goldens.assert_agrees(golden, goldens.as_answer(detections))


@demo_cases
def test_demo_in_pytorch(photograph: str) -> None:
    assert_pytorch_agrees("demo", photograph)


@demo_cases
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_demo_as_committed(photograph: str, runtime: str) -> None:
    with load_detector("demo", repository=REPOSITORY, runtime=runtime) as detector:
        answer = detector.detect(goldens.photograph_path(photograph))
    goldens.assert_agrees(goldens.load("demo", photograph), goldens.as_answer(answer))


@cases("mask_rcnn_s50", "cascade_rcnn_s101", quick=["mask_rcnn_s50"])
def test_pytorch(name: str, photograph: str) -> None:
    assert_pytorch_agrees(name, photograph)


@cases("mask_rcnn_s50", quick=["mask_rcnn_s50"])
def test_exported(exported_mask_rcnn_s50: Path, name: str, photograph: str) -> None:
    with load_detector(name, repository=exported_mask_rcnn_s50) as detector:
        answer = detector.detect(goldens.photograph_path(photograph))
    goldens.assert_agrees(goldens.load(name, photograph), goldens.as_answer(answer))


@pytest.mark.slow
@cases("mask_rcnn_s50")
def test_openvino(exported_mask_rcnn_s50: Path, name: str, photograph: str) -> None:
    with load_detector(name, repository=exported_mask_rcnn_s50, runtime="openvino") as detector:
        answer = detector.detect(goldens.photograph_path(photograph))
    goldens.assert_agrees(goldens.load(name, photograph), goldens.as_answer(answer))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ZOO if name != "demo"])
def test_exported_answers_what_pytorch_does(name: str, tmp_path: Path) -> None:
    """Each of the eight with the kit's weights on all of its photographs, and with mmdetection where it has goldens."""
    export_filled(name, tmp_path)
    assert_exported_answers_what_pytorch_does(name, tmp_path, goldens.names("mask_rcnn_s50"))
    network_path(tmp_path, name).unlink()  # hundreds of megabytes, that pytest would keep


def assert_exported_answers_what_pytorch_does(name: str, repository: Path, photographs: Sequence[str]) -> None:
    reference = filled(name)
    found = 0
    with load_detector(name, repository=repository) as detector:
        for photograph in photographs:
            path = goldens.photograph_path(photograph)
            answer = goldens.as_answer(detector.detect(path))
            expected, _ = goldens.run_pytorch(reference, name, path)
            print(name, photograph, end="  ")
            goldens.assert_agrees(goldens.as_answer(expected), answer)
            found += len(expected)
            if photograph in goldens.names(name):
                print("  mmdetection:", end="  ")
                goldens.assert_agrees(goldens.load(name, photograph), answer)
    assert found > 100  # the kit's weights find something in most photographs


def test_limits_are_the_kits() -> None:
    """Every limit can be missed: what moves, disappears or is added falls short."""
    golden = goldens.load("mask_rcnn_s50", "000000311303")
    answer = {key: golden[key] for key in ("boxes", "scores", "labels", "mask_rle", "image_size_hw")}
    assert compare.agreement(golden, answer)["found"] == 1
    for key, change in {"scores": 3e-3, "labels": 1, "boxes": 20}.items():
        with pytest.raises(AssertionError, match="found"):
            goldens.assert_agrees(golden, answer | {key: answer[key] + change})
    with pytest.raises(AssertionError, match="mask_iou 0"):
        goldens.assert_agrees(golden, answer | {"mask_rle": np.roll(answer["mask_rle"], 1)})
    doubled = {key: np.concatenate([answer[key], answer[key]]) for key in ("boxes", "scores", "labels", "mask_rle")}
    with pytest.raises(AssertionError, match="extra"):
        goldens.assert_agrees(golden, answer | doubled)
