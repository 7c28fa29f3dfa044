"""The demo model in a real tritonserver, over gRPC and HTTP: answers, batches, and requests of their own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from resnest_core import InProcessDetector
from resnest_core.buckets import Buckets
from resnest_core.detections import Detections
from resnest_core.images import load_image
from tests.triton.agreement import assert_same, detect
from tests.triton.ensemble_requests import PROTOCOLS, Client, asking
from tests.triton.server import ROOT, TritonServer

pytestmark = pytest.mark.triton

PHOTOGRAPHS = sorted((ROOT / "tests/data/demo/images").glob("*.jpg"))
CONCURRENCY = 8


def photograph(index: int) -> bytes:
    return PHOTOGRAPHS[index].read_bytes()


def png(path: Path, size_hw: tuple[int, int]) -> bytes:
    return cv2.imencode(".png", cv2.resize(load_image(path), size_hw[::-1])[..., ::-1])[1].tobytes()


def ask(
    server: TritonServer, protocol: str, data: bytes, model: str = "demo", score_threshold: float | None = None
) -> Detections | str:
    """Ask over a connection of one's own: the answer, or the error's sentence."""
    with asking(server, protocol) as client:
        try:
            return client.detect(data, model, score_threshold=score_threshold)
        except InferenceServerException as error:
            return str(error.message())


@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda path: path.stem)
def test_the_ensemble_answers_what_the_detector_in_the_process_answers(
    client: Client, local: InProcessDetector, path: Path
) -> None:
    ours = client.detect(path.read_bytes())
    assert len(ours) >= 1
    assert_same(ours, detect(local, path.read_bytes()))


def test_openvino_and_buckets(client: Client, local: InProcessDetector) -> None:
    data = png(PHOTOGRAPHS[0], (500, 600))  # 320×384 by itself, 320×448 in a bucket of 4:3
    assert_same(client.detect(data, "tight"), detect(local, data, buckets=Buckets.RATIOS))


@pytest.mark.parametrize("score_threshold", [0.0, 0.05, 0.5, 0.99, 1.0])
def test_each_request_has_its_own_threshold(client: Client, local: InProcessDetector, score_threshold: float) -> None:
    ours = client.detect(photograph(0), score_threshold=score_threshold)
    assert (ours.scores > max(score_threshold, 0.05)).all()
    assert_same(ours, detect(local, photograph(0), score_threshold=max(score_threshold, 0.05)))


def test_masks_where_they_are_wanted(client: Client) -> None:
    arrays = {"image": np.array([[photograph(0)]], np.object_)}
    for wanted in (True, False):
        outputs = client.infer("demo", {**arrays, "want_masks": np.array([[wanted]])})
        assert outputs["masks"].shape == (1, 100, 28, 28)
        assert outputs["masks"].any() == wanted


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_requests_share_batches_and_each_gets_its_own_answer(
    triton: TritonServer, local: InProcessDetector, protocol: str
) -> None:
    thresholds = [0.05 + 0.9 * (index % 4) / 4 for index in range(12)]
    with (
        asking(triton, "grpc") as client,
        client.counting_batches("demo_network", 12) as ran,
        ThreadPoolExecutor(CONCURRENCY) as pool,
    ):
        answers = list(pool.map(lambda value: ask(triton, protocol, photograph(0), score_threshold=value), thresholds))
    assert sum(ran.elements()) == 12
    assert max(ran) > 1
    for threshold, answer in zip(thresholds, answers, strict=True):
        assert isinstance(answer, Detections), answer
        assert_same(answer, detect(local, photograph(0), score_threshold=threshold))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_images_of_many_shapes_in_flight_at_once(triton: TritonServer, local: InProcessDetector, protocol: str) -> None:
    sizes = [(480, 640), (640, 480), (30, 600), (600, 30), (333, 334), (1, 1), (1200, 1800), (90, 160)]
    images = [png(path, size) for path, size in zip(PHOTOGRAPHS * 2, sizes, strict=False)]
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        answers = list(pool.map(partial(ask, triton, protocol), images))
    for image, answer in zip(images, answers, strict=True):
        assert isinstance(answer, Detections), answer
        assert_same(answer, detect(local, image))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_broken_image_among_others_fails_alone(triton: TritonServer, local: InProcessDetector, protocol: str) -> None:
    broken = {2: b"no image", 5: photograph(1)[:9000], 7: b""}
    images = [broken.get(index, photograph(index % 3)) for index in range(12)]
    with (
        asking(triton, "grpc") as client,
        client.counting_batches("demo_preprocess", 12) as ran,
        ThreadPoolExecutor(CONCURRENCY) as pool,
    ):
        answers = list(pool.map(partial(ask, triton, protocol), images))
    assert ran == {1: 12}, "a process decoded several images in one call, and others waited"
    says = {2: "This is not an image: send a", 5: "The JPEG file is cut short: send it", 7: "This is not an image:"}
    for index, (image, answer) in enumerate(zip(images, answers, strict=True)):
        if index in broken:
            assert isinstance(answer, str) and says[index] in answer
        else:
            assert isinstance(answer, Detections), answer
            assert_same(answer, detect(local, image))
