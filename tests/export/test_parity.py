"""Parity with mmdetection 3.3: its answers found again in PyTorch, in both runtimes, and over HTTP."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest

from resnest_core import load_detector
from resnest_core.detector import InProcessDetector
from resnest_core.repository import network_path
from resnest_export.models import ZOO, build
from resnest_export.models.detector import TwoStageDetector
from tests.core.networks import write_demo_of_equal_scores
from tests.data.parity import compare
from tests.export import goldens
from tests.server.test_serve import serving
from tests.weights import REPOSITORY, demo_state_dict, export_filled, filled

RUNTIMES = ("onnxruntime", "openvino")
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
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_demo_as_committed(photograph: str, runtime: str) -> None:
    with load_detector("demo", repository=REPOSITORY, runtime=runtime) as detector:
        answer = detector.detect(goldens.photograph_path(photograph))
    goldens.assert_agrees(goldens.load("demo", photograph), goldens.as_answer(answer))


def test_proposals_of_equal_scores(tmp_path: Path) -> None:
    """Which of equal anchors are proposals, both runtimes decide alike."""
    path = write_demo_of_equal_scores(tmp_path / "model.onnx")
    first, second = (load_detector(path, runtime=runtime) for runtime in RUNTIMES)
    with first, second:
        for photograph in ("000000458756", "311303_large"):
            expected, answer = (
                goldens.as_answer(each.detect(goldens.photograph_path(photograph), score_threshold=0.01))
                for each in (first, second)
            )
            figures = compare.agreement(expected, answer, threshold=0.01)
            assert figures["golden"] > 2
            assert (figures["found"], figures["extra"]) == (1, 0), photograph


def test_only_two_custom_operators(exported_mask_rcnn_s50: Path) -> None:
    """Winograd's convolutions, which the demo hasn't, are standard operators in the file."""
    model = onnx.load(network_path(exported_mask_rcnn_s50, "mask_rcnn_s50"))
    assert {node.op_type for node in model.graph.node if node.domain} == {"BatchedNMS", "MultiLevelRoIAlign"}
    assert "WinogradConv" not in {function.name for function in model.functions}
    assert [node for node in model.graph.node if node.op_type == "Conv" and "identity" in node.input[1]]


@cases("mask_rcnn_s50", "cascade_rcnn_s101", quick=["mask_rcnn_s50"])
def test_pytorch(name: str, photograph: str) -> None:
    assert_pytorch_agrees(name, photograph)


@pytest.fixture(scope="module", params=RUNTIMES)
def exported(exported_mask_rcnn_s50: Path, request: pytest.FixtureRequest) -> Iterator[InProcessDetector]:
    with load_detector("mask_rcnn_s50", repository=exported_mask_rcnn_s50, runtime=request.param) as detector:
        yield detector


@cases("mask_rcnn_s50", quick=["mask_rcnn_s50"])
def test_exported(exported: InProcessDetector, name: str, photograph: str) -> None:
    answer = exported.detect(goldens.photograph_path(photograph))
    goldens.assert_agrees(goldens.load(name, photograph), goldens.as_answer(answer))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ZOO if name != "demo"])
def test_exported_and_served(name: str, tmp_path: Path) -> None:
    """Each of the eight with the kit's weights on all of its photographs: in the process, and over HTTP.

    Both are held against PyTorch, and against mmdetection where it has goldens.
    """
    export_filled(name, tmp_path)
    reference = filled(name)
    photographs = {each: goldens.photograph_path(each) for each in goldens.names("mask_rcnn_s50")}
    in_pytorch = {each: goldens.run_pytorch(reference, name, path)[0] for each, path in photographs.items()}
    assert sum(map(len, in_pytorch.values())) > 100  # the kit's weights find something in most photographs
    for runtime in RUNTIMES:
        with (
            load_detector(name, runtime=runtime, repository=tmp_path) as detector,
            serving("--repository", str(tmp_path), "--model", name, "--runtime", runtime) as (url, _),
            httpx.Client(base_url=url, timeout=120) as client,
        ):
            for photograph, path in photographs.items():
                sources = {"PyTorch": goldens.as_answer(in_pytorch[photograph])}
                if photograph in goldens.names(name):
                    sources["mmdetection"] = goldens.load(name, photograph)
                answers = {"process": goldens.as_answer(detector.detect(path)), "HTTP": asked(client, name, path)}
                for (whose, golden), (way, answer) in itertools.product(sources.items(), answers.items()):
                    print(f"{name} {photograph} {runtime}, {way} and {whose}:", end="  ")
                    goldens.assert_agrees(golden, answer)
    network_path(tmp_path, name).unlink()  # hundreds of megabytes, that pytest would keep


@demo_cases
def test_demo_over_http(photograph: str, demo_url: str) -> None:
    with httpx.Client(base_url=demo_url, timeout=60) as client:
        answer = asked(client, "demo", goldens.photograph_path(photograph))
    goldens.assert_agrees(goldens.load("demo", photograph), answer)


@pytest.fixture(scope="module")
def demo_url() -> Iterator[str]:
    with serving("--model", "demo") as (url, _):
        yield url


def asked(client: httpx.Client, name: str, photograph: Path) -> goldens.Golden:
    """Post a photograph, and return the JSON that people get, as `compare.agreement` takes it."""
    response = client.post(f"/v1/models/{name}/detect", content=photograph.read_bytes())
    answer = response.raise_for_status().json()
    rows = answer["detections"]
    arrays: dict[str, Any] = {
        "boxes": np.array([row["box"] for row in rows], np.float32).reshape(-1, 4),
        "scores": np.array([row["score"] for row in rows], np.float32),
        "labels": np.array([row["label"] for row in rows], np.int64),
    }
    if rows and "mask" in rows[0]:
        arrays["mask_rle"] = np.array([row["mask"]["counts"] for row in rows])
        arrays["image_size_hw"] = np.array([answer["image"]["height"], answer["image"]["width"]])
    return arrays


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
