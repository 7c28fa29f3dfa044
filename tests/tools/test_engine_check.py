"""How engines are compared and timed on a GPU: the check itself is checked, with ONNX Runtime in an engine's place."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from resnest_core import tensors
from resnest_core.detector import InProcessDetector
from resnest_core.errors import RuntimeUnavailableError
from resnest_core.repository import network_path
from resnest_core.runtimes import OnnxRuntime, TensorRtRuntime
from resnest_core.runtimes.tensorrt.manifest import Flavour
from resnest_core.tensors import Tensors
from tests.core.networks import DEMO
from tests.core.tensorrt.manifests import write_engine
from tools.gpu_check import comparison, engine, speed
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


class Replaying(OnnxRuntime):
    """Stands for an engine that replays CUDA graphs."""

    captured = 1


class Stale(Replaying):
    """Answers the request before, from the third run of a shape on, as a graph does that reads old inputs."""

    def run(self, inputs: Tensors) -> Tensors:
        self.seen = [*getattr(self, "seen", []), inputs]
        return super().run(self.seen[-2] if len(self.seen) > 2 else inputs)


class Uncaptured(OnnxRuntime):
    """Stands for an engine of which TensorRT captures nothing."""

    captured = 0


def loading(
    monkeypatch: pytest.MonkeyPatch, plain: type[OnnxRuntime], replaying: type[OnnxRuntime] = Replaying
) -> list[tuple[Path, bool]]:
    """Put runtimes in an engine's place, without CUDA graphs and with them; return what was asked for."""
    asked: list[tuple[Path, bool]] = []

    def load(path: Path, *, cuda_graphs: bool) -> OnnxRuntime:
        asked.append((path, cuda_graphs))
        return (replaying if cuda_graphs else plain).load(path)

    monkeypatch.setattr(TensorRtRuntime, "load", load)
    monkeypatch.setattr(engine, "MAX_BATCH", 2)
    return asked


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
    asked = loading(monkeypatch, kind)
    monkeypatch.setattr(engine, "check_cuda_graphs", lambda *_: None)
    engine.compare_with_onnx_runtime(precision, DEMO)
    outcomes = heard(capsys)
    assert asked == [(DEMO, False)]
    assert [outcome.check.rpartition(", ")[2] for outcome in outcomes] == ["alone", "in a batch"]
    assert {outcome.state for outcome in outcomes} == {state}, outcomes


@pytest.mark.parametrize(
    ("kind", "states", "says"),
    [
        (Replaying, [State.PASSED], "A A A B B B A: "),
        (Stale, [State.FAILED], "answers [4, 7] aren't of their own image"),
        (Uncaptured, [State.PASSED, State.FAILED], "captured no graph"),
    ],
)
def test_cuda_graphs_pass_if_each_answer_is_of_its_own_image(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: type[OnnxRuntime],
    states: list[State],
    says: str,
) -> None:
    asked = loading(monkeypatch, OnnxRuntime, kind)
    with InProcessDetector(OnnxRuntime.load(DEMO)) as without:
        engine.check_cuda_graphs("graphs", DEMO, without)
    outcomes = heard(capsys)
    assert asked == [(DEMO, True)]
    assert [outcome.state for outcome in outcomes] == states
    assert says in outcomes[-1].detail


def test_images_that_can_not_be_told_apart_show_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    image, _ = comparison.two_images()
    with InProcessDetector(OnnxRuntime.load(DEMO)) as detector:
        detect = comparison.answer(detector)
        comparison.compare_in_turns("x", detect, detect, (image, image), detector.card, comparison.ROUGHLY)
    [outcome] = heard(capsys)
    assert outcome.state is State.FAILED and "both images have the same detections" in outcome.detail


def test_an_engine_that_fails_is_a_row(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def load(path: Path, *, cuda_graphs: bool) -> OnnxRuntime:
        raise RuntimeUnavailableError(f"TensorRT can't run {path.name}.{' ' * cuda_graphs}")

    monkeypatch.setattr(TensorRtRuntime, "load", load)
    engine.compare_with_onnx_runtime("fp32", DEMO)
    [outcome] = heard(capsys)
    assert (outcome.state, outcome.detail) == (State.FAILED, "TensorRT can't run model.onnx.")


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
