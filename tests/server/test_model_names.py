"""A model's name is its folder's, and each name answers from its own weights; odd folders are reported at start."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from resnest_client import HttpDetector
from resnest_core import Detections, load_detector
from resnest_core.errors import ModelNotFoundError
from resnest_core.repository import installed_models, network_path
from resnest_core.runtimes import runtimes_on
from tests.core.networks import DEMO, write_demo_of_nan, write_mirrored_demo
from tests.server.test_serve import PHOTOGRAPH, serving

NAMES = ["demo", "fruit.v2-b", "of_nan", "twin"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository whose files all say that they are `demo`, and folders that can't be models."""
    folder = tmp_path_factory.mktemp("repository")
    write_mirrored_demo(network_path(folder, "fruit.v2-b"))
    write_demo_of_nan(network_path(folder, "of_nan"))
    for name in ("demo", "twin", "two words"):
        path = network_path(folder, name)
        path.parent.mkdir(parents=True)
        shutil.copy(DEMO, path)
    (folder / "hollow_network" / "1").mkdir(parents=True)
    return folder


def assert_equal(found: Detections, expected: Detections) -> None:
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=0.01)


@pytest.mark.parametrize("runtime", runtimes_on("cpu"))
def test_in_the_process(repository: Path, runtime: str) -> None:
    found: dict[str, Detections] = {}
    for name in NAMES:
        with load_detector(name, repository=repository, runtime=runtime) as detector:
            assert (detector.card.name, detector.runtime.card.name, detector.runtime.device) == (name, name, "cpu")
            found[name] = detector.detect(PHOTOGRAPH)
    assert len(found["demo"]) > 0 and len(found["of_nan"]) == 0
    assert_equal(found["twin"], found["demo"])
    assert sorted(79 - found["fruit.v2-b"].labels[:3]) == sorted(found["demo"].labels[:3])


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "stderr"


@pytest.fixture(scope="module")
def url(repository: Path, log: Path) -> Iterator[str]:
    with serving("--repository", str(repository), log=log) as (url, _):
        yield url


def test_over_http(url: str, repository: Path) -> None:
    assert [card["name"] for card in httpx.get(f"{url}/v1/models").json()["models"]] == NAMES
    for name in NAMES:
        with HttpDetector(url, name) as remote, load_detector(name, repository=repository) as local:
            assert remote.card == local.card
            assert_equal(remote.detect(PHOTOGRAPH), local.detect(PHOTOGRAPH))
        answer = httpx.post(f"{url}/v1/models/{name}/detect", content=PHOTOGRAPH.read_bytes()).json()
        assert answer["model"] == name
    families = {family.name: family for family in text_string_to_metric_families(httpx.get(f"{url}/metrics").text)}
    for metric in ("resnest_requests", "resnest_model_load_seconds", "resnest_queue_places_taken"):
        assert {sample.labels["model"] for sample in families[metric].samples} == set(NAMES)


def test_folders_that_are_not_models_are_reported_at_start(url: str, log: Path) -> None:
    assert httpx.get(f"{url}/health/ready").is_success
    messages = [json.loads(line)["message"] for line in log.read_text().splitlines()]
    [misnamed] = [message for message in messages if "two words" in message]
    assert "is left out: A model can't be called 'two words': use letters" in misnamed
    [hollow] = [message for message in messages if "hollow" in message]
    assert "holds no 1/model.onnx: export the model again, or delete it." in hollow
    [same] = [message for message in messages if "the same file" in message]
    assert "The models demo and twin in" in same
    [serving_line] = [message for message in messages if message.startswith("Serving ")]
    assert "fruit.v2-b with openvino on cpu" in serving_line


def test_a_repository_that_changes_changes_no_served_model(url: str, repository: Path) -> None:
    path = network_path(repository, "fruit.v2-b")
    with HttpDetector(url, "fruit.v2-b") as detector:
        before = detector.detect(PHOTOGRAPH)
        kept = path.read_bytes()
        try:
            shutil.copy(DEMO, path)
            assert_equal(detector.detect(PHOTOGRAPH), before)
            path.unlink()
            assert_equal(detector.detect(PHOTOGRAPH), before)
        finally:
            path.write_bytes(kept)


def test_alone_it_is_the_default(tmp_path: Path) -> None:
    write_mirrored_demo(network_path(tmp_path, "fruit"))
    with serving("--repository", str(tmp_path)) as (url, _), load_detector("fruit", repository=tmp_path) as local:
        answer = httpx.post(f"{url}/v1/detect", content=PHOTOGRAPH.read_bytes()).json()
        assert answer["model"] == "fruit"
        assert [row["label"] for row in answer["detections"]] == local.detect(PHOTOGRAPH).labels.tolist()
        assert httpx.post(f"{url}/v1/models/demo/detect", content=PHOTOGRAPH.read_bytes()).status_code == 404


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("two words", "is left out: A model can't be called 'two words'"),
        ("hollow", r"holds no 1/model\.onnx"),
        ("absent", "There is no model 'absent' in .*, only demo, fruit.v2-b, of_nan, twin: name one"),
    ],
)
def test_naming_what_is_no_model(repository: Path, name: str, sentence: str) -> None:
    assert installed_models(repository) == NAMES
    with pytest.raises(ModelNotFoundError, match=sentence):
        load_detector(name, repository=repository)
