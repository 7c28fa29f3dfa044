"""Locating the model repository, and loading a model."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from resnest_core import load_detector
from resnest_core.card import read_card
from resnest_core.errors import (
    InvalidModelError,
    ModelNotFoundError,
    ParameterError,
    RuntimeUnavailableError,
)
from resnest_core.repository import default_model, find_repository, installed_models, network_path
from resnest_core.runtimes import RUNTIMES, FakeRuntime
from resnest_core.runtimes.fake import FAKE_CARD
from tests.core.networks import DEMO, REPOSITORY, write_network


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Start in a folder without a repository, and name none."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("RESNEST_REPOSITORY", raising=False)
    return folder


def test_the_argument_comes_first_then_the_variable_then_the_folder_then_the_demo(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert installed_models(find_repository()) == ["demo"]
    write_network(network_path(Path("model_repository"), "fake"), FAKE_CARD)
    assert find_repository() == Path("model_repository")
    monkeypatch.setenv("RESNEST_REPOSITORY", "/from/the/variable")
    assert find_repository() == Path("/from/the/variable")
    assert find_repository("given") == find_repository(Path("given")) == Path("given")


def test_a_folder_without_models_does_not_hide_the_demo(empty_folder: Path) -> None:
    (empty_folder / "model_repository").mkdir()
    assert installed_models(find_repository()) == ["demo"]


def test_installed_models_are_networks_sorted(tmp_path: Path) -> None:
    for name in ("zebra", "ant", "a.b"):
        write_network(network_path(tmp_path, name), FAKE_CARD)
    (tmp_path / "without_file_network" / "1").mkdir(parents=True)
    (tmp_path / "ant").mkdir()
    assert installed_models(tmp_path) == ["a.b", "ant", "zebra"]
    assert default_model(["zebra", "ant"]) == "ant"
    assert installed_models(tmp_path / "absent") == []


def test_by_name_and_by_path() -> None:
    for name_or_path in ("demo", DEMO, str(DEMO)):
        with load_detector(name_or_path) as detector:
            assert detector.card.name == "demo"
            assert len(detector.detect(np.zeros((32, 32, 3), np.uint8), score_threshold=0.99)) == 0


def test_arguments_reach_the_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    class Recording(FakeRuntime):
        @classmethod
        def load(cls, path: Path, **options: object) -> Recording:
            asked.append((path, options))
            return cls()

    monkeypatch.setitem(RUNTIMES, "openvino", Recording)
    load_detector("demo", runtime="openvino", device="cuda", threads=3, instances=2, repository=REPOSITORY).close()
    assert asked == [(DEMO, {"device": "cuda", "threads": 3, "instances": 2})]


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"name_or_path": "absent"}, ModelNotFoundError, "There is no model 'absent' in .*, only demo: name one of th"),
        ({"name_or_path": "mask_rcnn_s50"}, ModelNotFoundError, "only demo: `resnest export mask_rcnn_s50` makes it"),
        ({"name_or_path": ""}, ModelNotFoundError, "There is no model ''"),
        ({"name_or_path": "demo", "repository": "no/such"}, ModelNotFoundError, "in no/such, only none"),
        ({"name_or_path": "absent.onnx"}, ModelNotFoundError, r"There is no file absent\.onnx"),
        ({"name_or_path": "demo", "runtime": "abacus"}, ParameterError, "use one of openvino, onnxruntime"),
        ({"name_or_path": "demo", "device": "tpu"}, ParameterError, "use one of cpu, cuda"),
        ({"name_or_path": "demo", "runtime": "openvino", "device": "cuda"}, RuntimeUnavailableError, "runs on cpu"),
    ],
)
def test_what_can_not_be_loaded(arguments: dict[str, str], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        load_detector(**arguments)  # type: ignore[arg-type]


def test_a_card_is_read_without_its_network() -> None:
    with load_detector(DEMO) as detector:
        assert read_card(DEMO) == detector.card


def test_a_card_that_can_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(DEMO.read_bytes()[:5000])
    with pytest.raises(InvalidModelError, match=r"model\.onnx is damaged"):
        read_card(path)
    with pytest.raises(InvalidModelError, match="has no model card"):
        read_card(write_network(path))
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert read_card(DEMO).name == "demo"
