"""The Python models by themselves, with a stand-in for Triton's backend: requests in a batch, cancelled ones."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from resnest_core import cpus, tensors
from resnest_core.buckets import Buckets
from resnest_core.card import METADATA_KEY
from resnest_core.detector import InProcessDetector
from resnest_core.images import MAX_PIXELS
from resnest_core.runtimes.fake import FAKE_CARD, FakeRuntime
from resnest_export.triton_repository.model_configs import preprocess as preprocess_config
from resnest_export.triton_repository.options import Platform, Serving
from tests.triton.test_ensemble import photograph

UTILITIES = "triton_python_backend_utils"
CODES = ("INVALID_ARG", "UNAVAILABLE", "INTERNAL", "CANCELLED")


@dataclass
class Tensor:
    name: str
    array: NDArray[Any]

    def as_numpy(self) -> NDArray[Any]:
        return self.array


@dataclass
class Error:
    message: str
    code: str


for code in CODES:
    setattr(Error, code, code)


@dataclass
class Response:
    output_tensors: list[Tensor] = field(default_factory=list)
    error: Error | None = None

    def tensor(self, name: str) -> NDArray[Any]:
        (found,) = (tensor.array for tensor in self.output_tensors if tensor.name == name)
        return found


@dataclass
class Request:
    arrays: dict[str, NDArray[Any]]
    cancelled: bool = False

    def is_cancelled(self) -> bool:
        return self.cancelled


def get_input_tensor_by_name(request: Request, name: str) -> Tensor | None:
    return Tensor(name, request.arrays[name]) if name in request.arrays else None


class Logger:
    lines: list[str] = []  # noqa: RUF012

    @classmethod
    def log_error(cls, line: str) -> None:
        cls.lines.append(line)


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Any]]:
    """Return the classes of the preprocessing and of the network."""
    utilities = ModuleType(UTILITIES)
    contents = {"Tensor": Tensor, "InferenceResponse": Response, "TritonError": Error, "Logger": Logger}
    vars(utilities).update(contents, get_input_tensor_by_name=get_input_tensor_by_name)
    monkeypatch.setitem(sys.modules, UTILITIES, utilities)
    names = [f"resnest_core.triton_models.{name}" for name in ("common", "preprocess", "network")]
    for name in names:
        sys.modules.pop(name, None)
    _, preprocess, network = (importlib.import_module(name) for name in names)
    yield preprocess.TritonPythonModel, network.TritonPythonModel
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def preprocess(models: tuple[Any, Any]) -> Any:
    values = {METADATA_KEY: FAKE_CARD.model_dump_json(), "buckets": "exact", "max_pixels": str(MAX_PIXELS)}
    parameters = {name: {"string_value": value} for name, value in values.items()}
    model = models[0]()
    model.initialize({"model_config": json.dumps({"parameters": parameters})})
    return model


@pytest.mark.parametrize(
    ("given", "counts", "threads"),
    [(0, [], None), (0, [1], None), (0, [2], 4), (0, [2, 1], 2), (0, [9], 1), (3, [2], 3)],
)
def test_instances_of_the_network_share_the_cpus(
    models: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch, given: int, counts: list[int], threads: int | None
) -> None:
    loaded = []

    def load_detector(_: object, **options: Any) -> InProcessDetector:
        loaded.append(options["threads"])
        return InProcessDetector(FakeRuntime())

    module = sys.modules[models[1].__module__]
    monkeypatch.setattr(module, "load_detector", load_detector)
    monkeypatch.setattr(cpus, "allowed_cpus", lambda: 8)
    config = {
        "parameters": {"runtime": {"string_value": "openvino"}, "threads": {"string_value": str(given)}},
        "instance_group": [{"kind": "KIND_CPU", "count": count} for count in counts],
    }
    args = {"model_repository": "somewhere", "model_version": "1", "model_config": json.dumps(config)}
    models[1]().initialize(args)
    assert loaded == [threads]


def image(data: bytes, **arrays: NDArray[Any]) -> Request:
    return Request({"image": np.array([[data]], np.object_), **arrays})


def rows(count: int, threshold: float = 0.05, cancelled: bool = False) -> Request:
    arrays: dict[str, NDArray[Any]] = {
        tensors.IMAGES: np.zeros((count, 32, 64, 3), np.uint8),
        tensors.IMAGE_SIZES: np.full((count, 2), 32),
        tensors.ORIGINAL_SIZES: np.full((count, 2), 32),
        tensors.SCORE_THRESHOLDS: np.full((count, 1), threshold, np.float32),
        tensors.WANT_MASKS: np.ones((count, 1), bool),
    }
    return Request(arrays, cancelled)


def test_in_one_batch_of_images_each_fails_or_is_answered_by_itself(preprocess: Any) -> None:
    requests = [
        image(photograph(0)),
        image(b"no image"),
        image(photograph(0), score_threshold=np.array([[0.5]], np.float32), want_masks=np.array([[False]])),
        image(photograph(0), score_threshold=np.array([[np.nan]], np.float32)),
        Request({"image": np.array([[photograph(0)]], np.object_)}, cancelled=True),
        Request({}),
    ]
    first, broken, asked, wrong, cancelled, empty = preprocess.execute(requests)
    assert first.error is None and first.tensor(tensors.IMAGES).shape[0] == 1
    assert first.tensor(tensors.SCORE_THRESHOLDS) == np.float32(0.05) and first.tensor(tensors.WANT_MASKS)
    assert asked.tensor(tensors.SCORE_THRESHOLDS) == 0.5 and not asked.tensor(tensors.WANT_MASKS)
    assert broken.error == Error(
        "This is not an image: send a JPEG, PNG, WebP, BMP, TIFF or GIF file.",
        Error.INVALID_ARG,  # type: ignore[attr-defined]
    )
    assert [one.error.code for one in (wrong, cancelled, empty)] == ["INVALID_ARG", "CANCELLED", "INVALID_ARG"]


@pytest.mark.parametrize(("platform", "shape"), [(Platform.CPU, (32, 544)), (Platform.TENSORRT, (320, 544))])
def test_where_an_engine_runs_buckets_only_a_panorama_goes_into_one(
    models: tuple[Any, Any], platform: Platform, shape: tuple[int, int]
) -> None:
    serving = Serving(platform=platform, buckets=Buckets.RATIOS)
    parameters = {
        name: {"string_value": value.string_value}
        for name, value in preprocess_config(FAKE_CARD, serving).parameters.items()
    }
    model = models[0]()
    model.initialize({"model_config": json.dumps({"parameters": parameters})})
    panorama = cv2.imencode(".png", np.zeros((100, 2000, 3), np.uint8))[1].tobytes()
    (answer,) = model.execute([image(panorama)])
    assert answer.tensor(tensors.IMAGES).shape == (1, *shape, 3)
    assert answer.tensor(tensors.IMAGE_SIZES).tolist() == [[27, 533]]


def test_a_fault_of_ours_tells_the_log_and_not_the_client(preprocess: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setitem(preprocess.execute.__globals__, "decode_image", fail)
    (answer,) = preprocess.execute([image(photograph(0))])
    assert answer.error.code == "INTERNAL" and "secret" not in answer.error.message
    assert "ZeroDivisionError: secret" in Logger.lines


def test_a_batch_runs_at_once_without_those_that_have_gone(models: tuple[Any, Any]) -> None:
    network = models[1]()
    network.runtime = FakeRuntime(count=3)
    network.inputs = tensors.input_names(True)
    answers = network.execute([rows(1), rows(1, cancelled=True), rows(2, threshold=0.6), rows(1, threshold=0.8)])
    (call,) = network.runtime.calls
    assert call[tensors.IMAGES].shape == (4, 32, 64, 3)
    assert answers[1].error.code == "CANCELLED"
    counts = [answers[index].tensor(tensors.NUM_DETECTIONS).ravel().tolist() for index in (0, 2, 3)]
    assert counts == [[3], [2, 2], [1]]
    assert network.execute([rows(1, cancelled=True)])[0].error.code == "CANCELLED"
    assert len(network.runtime.calls) == 1


def test_a_batch_that_fails_fails_as_one(models: tuple[Any, Any]) -> None:
    def fail(_: object) -> None:
        raise MemoryError

    network = models[1]()
    network.runtime = FakeRuntime(before_run=fail)
    network.inputs = tensors.input_names(True)
    assert [one.error.code for one in network.execute([rows(1), rows(2)])] == ["INTERNAL"] * 2
