"""One of the eight detectors in a real tritonserver: while it loads, and what it answers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from deploy.triton.home import Home
from resnest_core import Detections, InProcessDetector, load_detector
from tests.triton.agreement import assert_same, detect
from tests.triton.ensemble_requests import PROTOCOLS, asking
from tests.triton.server import REPOSITORY, TritonServer
from tests.triton.test_ensemble import ask, photograph

pytestmark = pytest.mark.triton

NAME = "mask_rcnn_s50"
IMAGES = Path(__file__).parents[1] / "data/parity/images"
PANORAMA = (IMAGES / "311303_panorama.jpg").read_bytes()  # 96×1344 pixels: one of the eight on a CPU takes its time
SMALL = (IMAGES / "311303_small.jpg").read_bytes()  # 800×1088


@pytest.fixture(scope="module")
def server(
    triton_home: Home, triton_project: Path, exported_mask_rcnn_s50: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    """Run a server that loads models when it is told to."""
    folder = tmp_path_factory.mktemp("triton_published")
    repository = folder / "repository"
    shutil.copytree(REPOSITORY, repository, ignore=shutil.ignore_patterns("__pycache__", "README.md"))
    for path in exported_mask_rcnn_s50.glob(f"{NAME}*"):
        (repository / path.name).symlink_to(path)
    options = ["--model-control-mode=explicit", "--load-model=demo"]
    with TritonServer(triton_home, triton_project, repository, folder / "log", *options).start() as server:
        yield server


@pytest.fixture(scope="module")
def loaded(server: TritonServer) -> TritonServer:
    """Load the model; meanwhile it is unavailable, and the demo answers."""
    with asking(server, "grpc") as client, asking(server, "grpc") as other, ThreadPoolExecutor(1) as pool:
        loading = pool.submit(client.client.load_model, NAME)
        while "LOADING" not in {model.state for model in other.client.get_model_repository_index().models}:
            assert not loading.done(), "it was loaded before anybody could look"
        # It takes seconds from here on.
        with pytest.raises(InferenceServerException, match=NAME):
            other.detect(PANORAMA, NAME)
        assert not other.client.is_model_ready(NAME)
        assert other.client.is_server_ready()
        assert len(other.detect(photograph(0))) >= 1
        loading.result()
        assert other.client.is_model_ready(NAME)
    return server


@pytest.fixture(scope="module")
def detector(exported_mask_rcnn_s50: Path) -> Iterator[InProcessDetector]:
    with load_detector(NAME, repository=exported_mask_rcnn_s50) as detector:
        yield detector


@pytest.fixture(scope="module")
def expected(detector: InProcessDetector) -> Detections:
    """Return what this process finds in the panorama."""
    return detect(detector, PANORAMA)


def test_the_ensemble_answers_what_the_detector_in_the_process_answers(
    loaded: TritonServer, detector: InProcessDetector, expected: Detections
) -> None:
    assert len(expected) >= 10
    for protocol in PROTOCOLS:
        with asking(loaded, protocol) as client:
            assert_same(client.detect(PANORAMA, NAME), expected)
    with asking(loaded, "grpc") as client:
        assert_same(client.detect(SMALL, NAME), detect(detector, SMALL))


def test_requests_share_batches_and_a_broken_image_fails_alone(loaded: TritonServer, expected: Detections) -> None:
    thresholds = np.quantile(expected.scores, [0, 0.3, 0.6]).tolist()
    requests = [(PANORAMA, threshold) for threshold in thresholds] + [(PANORAMA[:2000], 0.05)]
    with asking(loaded, "grpc") as client:
        counting = client.counting_batches(f"{NAME}_network", len(thresholds))
        with counting as ran, ThreadPoolExecutor(len(requests)) as pool:
            answers = list(pool.map(lambda asked: ask(loaded, "grpc", asked[0], NAME, asked[1]), requests))
    assert max(ran) > 1, ran
    assert isinstance(answers[-1], str) and "cut short" in answers[-1]
    for threshold, answer in zip(thresholds, answers[:-1], strict=True):
        assert isinstance(answer, Detections), answer
        # A threshold takes the tail away, and changes nothing before it.
        assert_same(answer, expected[expected.scores > threshold])
