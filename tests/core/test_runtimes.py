"""Every runtime answers what mmdetection answered, and says in a sentence why it can't."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from resnest_core import tensors
from resnest_core.detections import Detections
from resnest_core.detector import InProcessDetector
from resnest_core.errors import InvalidModelError, MissingExtraError, ResNeStError, RuntimeUnavailableError
from resnest_core.images import load_image
from resnest_core.masks import rle
from resnest_core.preprocess import prepare, stack
from resnest_core.runtimes import RUNTIMES, FakeRuntime, OnnxRuntime, OpenVinoRuntime, runtimes_on
from resnest_core.runtimes.fake import FAKE_CARD
from tests.core.examples import DATA
from tests.core.networks import DEMO, write_network
from tests.data.parity.compare import EXTRA, LOWEST, agreement

PHOTOGRAPHS = [DATA / "demo" / "images" / f"{stem}.jpg" for stem in ("000000000073", "000000458756", "000000491525")]


@pytest.fixture(scope="module", params=runtimes_on("cpu"))
def detector(request: pytest.FixtureRequest) -> Iterator[InProcessDetector]:
    with InProcessDetector(RUNTIMES[request.param].load(DEMO, threads=2)) as detector:
        yield detector


def arrays(found: Detections) -> dict[str, object]:
    """Return the detections as `compare.py` takes them."""
    masks = () if found.masks is None else found.masks
    counts = [rle(mask, box, found.image_size_hw)["counts"] for mask, box in zip(masks, found.boxes_xyxy, strict=False)]
    return {
        "boxes": found.boxes_xyxy,
        "scores": found.scores,
        "labels": found.labels,
        "image_size_hw": found.image_size_hw,
        "mask_rle": counts,
    }


@pytest.mark.parametrize("photograph", PHOTOGRAPHS, ids=lambda path: path.stem)
def test_a_photograph_gets_mmdetections_answer(detector: InProcessDetector, photograph: Path) -> None:
    with np.load(DATA / "demo" / "golden" / f"{photograph.stem}.npz") as golden:
        figures = agreement(golden, arrays(detector.detect(photograph)))
    assert figures["golden"] > 1
    assert figures["extra"] <= EXTRA
    assert {name: figures[name] for name in LOWEST if figures[name] < LOWEST[name]} == {}


def test_a_batch_gives_what_single_images_give(detector: InProcessDetector) -> None:
    images = [prepare(load_image(path), detector.card) for path in PHOTOGRAPHS]
    # Padding counts in what the network pools, so each is padded as in the batch.
    padded = stack(images)[tensors.IMAGES]
    images = [dataclasses.replace(image, pixels=pixels) for image, pixels in zip(images, padded, strict=True)]
    together = detector.infer(images, [0.05, 0.5, 0.05], [True, True, False])
    for image, found, threshold, masks in zip(images, together, [0.05, 0.5, 0.05], [True, True, False], strict=True):
        [alone] = detector.infer([image], [threshold], [masks])
        assert len(found) == len(alone) > 0
        assert (found.scores > threshold).all()
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-4)
        np.testing.assert_allclose(found.boxes_xyxy, alone.boxes_xyxy, atol=0.01)
        np.testing.assert_array_equal(found.labels, alone.labels)
        assert (found.masks is None) == (not masks)
        if found.masks is not None and alone.masks is not None:
            np.testing.assert_allclose(found.masks.astype(float), alone.masks.astype(float), atol=2e-3)


def test_outputs_are_as_written_in_the_table(detector: InProcessDetector) -> None:
    card = detector.card
    inputs = stack([prepare(load_image(PHOTOGRAPHS[0]), card)]) | {
        tensors.SCORE_THRESHOLDS: np.full((1, 1), 0.3, np.float32),
        tensors.WANT_MASKS: np.ones((1, 1), bool),
    }
    outputs, rows = detector.runtime.run(inputs), card.max_detections
    assert {name: (str(array.dtype), array.shape) for name, array in outputs.items()} == {
        tensors.NUM_DETECTIONS: ("int64", (1, 1)),
        tensors.BOXES: ("float32", (1, rows, 4)),
        tensors.SCORES: ("float32", (1, rows)),
        tensors.LABELS: ("int64", (1, rows)),
        tensors.MASKS: ("float16", (1, rows, card.mask_size, card.mask_size)),
    }
    count = int(outputs[tensors.NUM_DETECTIONS][0, 0])
    assert 0 < count < rows
    assert not outputs[tensors.BOXES][0, count:].any() and not outputs[tensors.SCORES][0, count:].any()
    assert (outputs[tensors.LABELS][0, count:] == -1).all()


def test_several_threads_may_run_it(detector: InProcessDetector) -> None:
    alone = [detector.detect(path) for path in PHOTOGRAPHS]
    with ThreadPoolExecutor(3) as pool:
        for found, expected in zip(pool.map(detector.detect, PHOTOGRAPHS * 2), alone * 2, strict=True):
            np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
            np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=0.01)


@pytest.mark.parametrize("name", RUNTIMES)
@pytest.mark.parametrize("kept", [0, 0.5, 0.9999])
def test_a_file_cut_short_is_refused(tmp_path: Path, name: str, kept: float) -> None:
    data, path = DEMO.read_bytes(), tmp_path / "model.onnx"
    path.write_bytes(data[: int(kept * len(data))])
    refused(name, path)


@pytest.mark.parametrize("name", RUNTIMES)
@pytest.mark.parametrize("content", [b"hello", b"\x08\x08", b"\x80\x02}q\x00.", bytes(1000)])
def test_a_file_of_something_else_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    refused(name, path)


@pytest.mark.parametrize("name", RUNTIMES)
def test_somebody_elses_network_is_refused(tmp_path: Path, name: str) -> None:
    assert "has no model card: make the file with `resnest export`" in refused(name, write_network(tmp_path / "m.onnx"))


@pytest.mark.parametrize("name", runtimes_on("cpu"))
def test_a_network_of_unknown_operators_is_refused(tmp_path: Path, name: str) -> None:
    assert "export it again" in refused(name, write_network(tmp_path / "m.onnx", FAKE_CARD, "Guess", "of.tomorrow"))


def refused(name: str, path: Path) -> str:
    """Return the sentence, naming the file, that a runtime refuses it with."""
    with pytest.raises(InvalidModelError) as caught:
        RUNTIMES[name].load(path)
    sentence = str(caught.value)
    assert str(path) in sentence
    assert "\n" not in sentence and sentence.endswith(".")
    return sentence


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("onnxruntime", "onnxruntime", "server"), ("openvino", "openvino", "openvino"), ("openvino", "onnx", "openvino")],
)
def test_a_missing_package_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, name: str, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"^{package} is not installed: .*\[{extra}\]"):
        RUNTIMES[name].load(DEMO)


@pytest.mark.parametrize("kind", [OnnxRuntime, OpenVinoRuntime])
def test_cuda_where_there_is_none(kind: type[OnnxRuntime | OpenVinoRuntime], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(RuntimeUnavailableError, match="cuda") as caught:
        kind.load(DEMO, device="cuda")
    assert isinstance(caught.value, ResNeStError) and "cpu" in str(caught.value)


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="CUDA is there")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_cuda_that_finds_no_device_is_not_the_cpu_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.raises(RuntimeUnavailableError, match="found no cuda device"):
        OnnxRuntime.load(DEMO, device="cuda")


@pytest.mark.parametrize(
    ("device", "provider", "options"),
    [
        ("cuda", "CUDAExecutionProvider", {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}),
        ("cpu", "CPUExecutionProvider", {}),
    ],
)
def test_cuda_computes_in_fp32_and_searches_no_algorithms(
    device: str, provider: str, options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    class Session:
        def __init__(self, *_: object, providers: list[Any]) -> None:
            asked.extend(providers)

        def get_providers(self) -> list[str]:
            return [name for name, _ in asked]

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [provider])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    loaded = OnnxRuntime.load(DEMO, device=device)
    assert asked == [(provider, options)]
    assert loaded.device.startswith(device)


def test_the_fake_one_answers_as_a_network_would() -> None:
    with InProcessDetector(FakeRuntime(count=4)) as detector:
        found = detector.detect(np.zeros((30, 50, 3), np.uint8), score_threshold=0.5)
    assert found.scores.tolist() == pytest.approx([0.9, 0.72, 0.576])
    assert found.labels.tolist() == [0, 1, 2]
    assert found.image_size_hw == (30, 50)
    boxes = found.boxes_xyxy
    assert (boxes[:, :2] < boxes[:, 2:]).all() and (boxes >= 0).all() and (boxes <= [50, 30, 50, 30]).all()
    assert found.masks is not None and found.masks.shape == (3, 28, 28)
    assert found.masks[:, 14, 14].min() == 1 and not found.masks[:, 0, 0].any()
