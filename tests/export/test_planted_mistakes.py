"""A mistake in folding, in Winograd's convolutions or in fixed sizes is seen by an export's check, and refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval

from resnest_core.buckets import Buckets
from resnest_core.errors import InvalidModelError
from resnest_core.hashing import sha256
from resnest_core.runtimes.tensorrt.manifest import Flavour
from resnest_export import batch_norm_folding, checkpoint, pipeline, to_onnx, winograd
from resnest_export.models import ZOO, build
from resnest_export.pipeline import export_detector
from resnest_export.precision import Precision
from resnest_export.request import ExportRequest
from resnest_export.tensorrt import engine_export, fixed_size, graph
from resnest_export.tensorrt.build import Built
from resnest_export.tensorrt.builder import EngineOptions
from resnest_export.tensorrt.engine_export import EngineTarget, export_engine
from resnest_export.winograd import WinogradConv, WinogradConvs
from tests.export import goldens
from tests.export.untraced import Networks, same, scaled, without_tracing
from tests.weights import DEMO, demo_state_dict

Plant = Callable[[pytest.MonkeyPatch], None]
TARGET = EngineTarget(Buckets.RATIOS, 1, EngineOptions(flavour=Flavour.RTX, compute_capabilities=("8.9",)))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's checkpoint."""
    path = tmp_path_factory.mktemp("checkpoint") / "demo.pth"
    torch.save({"meta": {}, "state_dict": demo_state_dict()}, path)
    return path


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> Networks:
    """Networks that were exported; at half the demo's size, since nothing here depends on it."""
    monkeypatch.setitem(ZOO, "demo", ZOO["demo"].with_scale((267, 160)))
    return without_tracing(monkeypatch)


def request(demo: Path, repository: Path, **options: Any) -> ExportRequest:
    """Return a request for a demo that looks at few proposals, which take most of a detector's time."""
    return ExportRequest("demo", demo, repository, max_proposals=60, **options)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Stand for TensorRT's builder; return the arguments that it was called with."""
    calls: list[Any] = []

    def build_engine(*arguments: Any) -> Built:
        calls.append(arguments)
        return Built("1.0", ())

    monkeypatch.setattr(engine_export, "check_target", lambda *_: None)
    monkeypatch.setattr(engine_export, "build_engine", build_engine)
    return calls


def ignored(_: str) -> None:
    """Report nothing."""


def wrong_folding(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(conv: nn.Conv2d) -> nn.Conv2d:
        with torch.no_grad():
            conv.weight *= 1.05
        return conv

    monkeypatch.setattr(batch_norm_folding, "fuse_conv_bn_eval", scaled(fuse_conv_bn_eval, change))


def narrow_winograd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the demo's convolutions, which are too narrow for it to pay, use Winograd's convolutions: no mistake."""
    monkeypatch.setattr(winograd, "SMALLEST_WIDTH", 1)


def wrong_winograd(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow_winograd(monkeypatch)
    transforms = winograd.transforms
    monkeypatch.setattr(winograd, "transforms", scaled(transforms, lambda of: (of[0], of[1] * 1.2, of[2])))


@pytest.mark.parametrize(
    ("plant", "precision"),
    [
        (wrong_folding, Precision.FP32),
        (wrong_winograd, Precision.FP32),
        (wrong_winograd, Precision.FP16),
        (wrong_folding, Precision.INT8),
        (wrong_folding, Precision.BF16),
    ],
)
@pytest.mark.usefixtures("networks")
def test_an_export_with_a_mistake_is_refused(
    plant: Plant, precision: Precision, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    calibration = DEMO / "images" if precision is Precision.INT8 else None
    asked = request(demo, tmp_path, precision=precision, calibration=calibration)
    with pytest.raises(InvalidModelError, match="The file differs from PyTorch at 256×160 alone"):
        export_detector(asked, ignored)
    assert not list(tmp_path.rglob("model.onnx*"))


def test_without_a_mistake_it_is_written(
    networks: Networks, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same way, so that the refusals above come of the mistakes."""
    narrow_winograd(monkeypatch)
    lines: list[str] = []
    assert export_detector(request(demo, tmp_path), lines.append).is_file()
    assert sum("against PyTorch" in line for line in lines) == 4
    assert not any(" 0 detections" in line for line in lines)
    (network,) = networks.values()
    kinds = [type(module) for module in network.modules()]
    assert (kinds.count(WinogradConvs), kinds.count(WinogradConv)) == (2, 5) and nn.BatchNorm2d not in kinds


def test_without_winograd_the_convolutions_are_plain(
    networks: Networks, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As CUDA computes them best; the check compares that file too."""
    narrow_winograd(monkeypatch)
    export_detector(request(demo, tmp_path, winograd=False), ignored)
    (network,) = networks.values()
    assert not [each for each in network.modules() if isinstance(each, WinogradConvs | WinogradConv)]


def plant_in_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def fold(detector: nn.Module) -> None:
        batch_norm_folding.fold_batch_norm(detector)
        with torch.no_grad():
            detector.get_parameter("rpn_head.rpn_conv.weight").mul_(1.2)

    monkeypatch.setattr(graph, "fold_batch_norm", fold)


def plant_in_fixed_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let regions be a few pixels off."""

    def change(rois: torch.Tensor) -> torch.Tensor:
        return rois + torch.tensor([0, 6.0, 0, 6.0, 0])

    monkeypatch.setattr(fixed_size, "all_rois", scaled(fixed_size.all_rois, change))


@pytest.mark.parametrize(
    ("plant", "precision"),
    [
        (plant_in_engine, Precision.FP32),
        (plant_in_fixed_sizes, Precision.FP32),
        (plant_in_fixed_sizes, Precision.FP16),
        (plant_in_engine, Precision.BF16),
    ],
)
@pytest.mark.usefixtures("networks")
def test_an_engine_with_a_mistake_is_not_built(
    plant: Plant, precision: Precision, demo: Path, tmp_path: Path, built: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    monkeypatch.setattr(pipeline, "check", lambda *_: iter(()))  # that of the ordinary file, which has no mistake
    with pytest.raises(InvalidModelError, match="The file differs from PyTorch at 256×160 alone"):
        export_engine(request(demo, tmp_path, precision=precision), TARGET, ignored)
    assert not built


@pytest.mark.usefixtures("networks")
@pytest.mark.parametrize("to", ["onnx", "tensorrt"])
def test_the_checkpoint_is_read_and_hashed_once(
    to: str, demo: Path, tmp_path: Path, built: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            calls.append(name)
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(checkpoint, "sha256", counted("sha256", sha256))
    monkeypatch.setattr(torch, "load", counted("load", torch.load))
    for module in (pipeline, engine_export):
        monkeypatch.setattr(module, "check", lambda *_: iter(()))
    monkeypatch.setattr(engine_export, "candidates", lambda *_: 1)
    asked = request(demo, tmp_path, name="fruit", precision=Precision.FP16)
    if to == "onnx":
        export_detector(replace(asked, precision=Precision.FP32), ignored)
    else:
        path = export_engine(asked, TARGET, ignored)
        ((_, onnx_path, card, _, detector),) = built
        assert (path, card.name, detector) == (onnx_path, "fruit_fp16", "demo")
    assert calls == ["sha256", "load"]


@pytest.mark.usefixtures("networks")
def test_exporting_changes_no_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    narrow_winograd(monkeypatch)
    detector = build(ZOO["demo"])
    before = copy.deepcopy(detector)
    card = goldens.card("demo")
    to_onnx.export_onnx(detector, card, tmp_path / "model.onnx")
    assert same(detector, before)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        graph.fixed_size_graph(detector, card, dtype)
        assert same(detector, before)


def test_detectors_of_one_checkpoint_share_its_memory(demo: Path, tmp_path: Path) -> None:
    source = pipeline.ExportSource.read(ExportRequest("demo", demo, tmp_path))
    stored = {key: value.data_ptr() for key, value in source.checkpoint.state_dict.items()}
    for detector in (source.detector, pipeline.build_with_weights(source.whole, source.checkpoint)):
        weights = detector.state_dict()
        assert {key: weights[key].data_ptr() for key in stored} == stored
