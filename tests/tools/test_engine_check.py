"""How engines are compared and timed on a GPU: the check itself is checked, with ONNX Runtime in an engine's place."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnest_core import tensors
from resnest_core.detector import InProcessDetector
from resnest_core.errors import RuntimeUnavailableError
from resnest_core.repository import network_path
from resnest_core.runtimes import OnnxRuntime
from resnest_core.runtimes.tensorrt.manifest import Flavour
from resnest_core.tensors import Tensors
from tests.core.networks import DEMO
from tests.core.tensorrt.manifests import write_engine
from tools.gpu_check import engine, speed
from tools.gpu_check.outcome import Outcome, State


class Shifted(OnnxRuntime):
    """Answers boxes a few pixels off."""

    def run(self, inputs: Tensors) -> Tensors:
        outputs = dict(super().run(inputs))
        return outputs | {tensors.BOXES: outputs[tensors.BOXES] + np.float32(1.5)}


def heard(capsys: pytest.CaptureFixture[str]) -> list[Outcome]:
    """Return what was said."""
    lines = capsys.readouterr().out.splitlines()
    return [outcome for line in lines if (outcome := Outcome.hear(line))]


@pytest.mark.parametrize(
    ("kind", "precision", "state"),
    [(OnnxRuntime, "fp32", State.PASSED), (Shifted, "fp32", State.FAILED), (Shifted, "fp16", State.PASSED)],
)
def test_an_engine_passes_if_it_answers_as_onnx_runtime_does(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: type[OnnxRuntime],
    precision: str,
    state: State,
) -> None:
    asked: list[Any] = []

    def load_detector(path: Path, *, runtime: str) -> InProcessDetector:
        asked.append((path, runtime))
        return InProcessDetector(kind.load(path))

    monkeypatch.setattr(engine, "load_detector", load_detector)
    monkeypatch.setattr(engine, "MAX_BATCH", 2)
    engine.compare(precision, DEMO)
    outcomes = heard(capsys)
    assert asked == [(DEMO, "tensorrt")]
    assert [outcome.check.rpartition(", ")[2] for outcome in outcomes] == ["alone", "in a batch"]
    assert {outcome.state for outcome in outcomes} == {state}, outcomes


def test_an_engine_that_fails_is_a_row(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def load_detector(path: Path, *, runtime: str) -> InProcessDetector:
        raise RuntimeUnavailableError(f"{runtime} can't run {path.name}.")

    monkeypatch.setattr(engine, "load_detector", load_detector)
    engine.compare("fp32", DEMO)
    [outcome] = heard(capsys)
    assert (outcome.state, outcome.detail) == (State.FAILED, "tensorrt can't run model.onnx.")


def test_a_build_that_fails_is_a_failure_and_no_library_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def crash(*_: object) -> None:
        raise RuntimeUnavailableError("TensorRT's process ended while it built the engine.")

    monkeypatch.setattr(engine, "write_engine", crash)
    monkeypatch.setattr(engine, "check_target", lambda *_: None)
    engine.main(Flavour.RTX, tmp_path)
    monkeypatch.setattr(engine, "check_target", crash)
    engine.main(Flavour.TENSORRT, tmp_path)
    assert [outcome.state for outcome in heard(capsys)] == [State.FAILED, State.NOT_RUN, State.NOT_RUN]


def test_an_engine_is_timed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = network_path(tmp_path, "demo")
    path.parent.mkdir(parents=True)
    write_engine(Path(shutil.copy(DEMO, path)))
    speed.time_engine(tmp_path, "demo", 1, runtime="onnxruntime", device="cpu")
    speed.time_engine(tmp_path, "demo", 1, runtime="abacus", device="cpu")
    timed, wrong = heard(capsys)
    assert timed.state is State.PASSED and float(timed.detail.split(",")[0]) > 0 and " ms" in timed.detail
    assert timed.check == "images per second: demo, fp16"
    assert wrong.state is State.FAILED and "There is no runtime 'abacus'" in wrong.detail
