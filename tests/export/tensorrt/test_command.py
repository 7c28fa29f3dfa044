"""`resnest export --to tensorrt`: the whole way of the demo, and what is refused before it begins."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from resnest_core.cli import build
from resnest_core.errors import ParameterError, RuntimeUnavailableError
from resnest_core.repository import load_detector, network_path
from resnest_core.runtimes.tensorrt.cuda import Cuda, Gpu
from resnest_core.runtimes.tensorrt.manifest import EngineManifest, Flavour, manifest_path
from resnest_export.tensorrt import build as building
from tests.export.traces import FEW_PROPOSALS, Traces
from tests.weights import DEMO, demo_state_dict


def export(*options: str | Path) -> Result:
    return CliRunner().invoke(build(), ["export", "demo", *map(str, options)])


def refused(result: Result, kind: type[Exception]) -> str:
    assert isinstance(result.exception, kind), result.output
    return str(result.exception)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "demo.pth"
    torch.save({"meta": {}, "state_dict": demo_state_dict()}, path)
    return path


@pytest.mark.rtx
def test_a_checkpoint_becomes_an_engine_beside_the_models_file(
    checkpoint: Path, tmp_path: Path, traces: Traces
) -> None:
    engine = ("--to", "tensorrt", "--sm", "89", "--precision", "fp16", "--buckets", "landscape-portrait")
    few = ("--max-batch", "1", "--max-proposals", str(FEW_PROPOSALS))
    gate = ("--gate", "1", "--annotations", DEMO / "instances.json", "--images", DEMO / "images")
    with traces.shared():
        result = export("--checkpoint", checkpoint, *engine, *few, *gate, "--repository", tmp_path)
    assert result.exit_code == 0, result.output
    path = network_path(tmp_path, "demo_fp16")
    assert result.output.splitlines()[-1] == str(path)
    for precision in ("fp32", "fp16"):
        start = f"The engine's network in {precision}: "
        assert sum(line.startswith(start) for line in result.output.splitlines()) == 6
    assert any(line.startswith("Pairs of proposal and class") for line in result.output.splitlines())
    assert sum(" AP " in line and "in fp32" in line for line in result.output.splitlines()) == 2

    manifest = EngineManifest.read(manifest_path(path.with_name("model.plan")))
    manifest.check_files(path.with_name("model.plan"))
    assert (manifest.model, manifest.precision, manifest.compute_capability) == ("demo", "fp16", "8.9")
    assert manifest.tensorrt_flavour is Flavour.RTX
    assert [profile.max for profile in manifest.profiles] == [(1, 320, 544), (1, 544, 320)]
    assert (tmp_path / "demo_fp16_network" / "config.pbtxt").is_file()
    with load_detector("demo_fp16", runtime="onnxruntime", repository=tmp_path) as detector:
        assert detector.card.precision == "fp16"
        assert len(detector.detect(next((DEMO / "images").glob("*544.jpg"))))


@pytest.mark.parametrize("precision", ["fp16", "fp8"])
def test_a_precision_of_engines_needs_an_engine(precision: str, checkpoint: Path, tmp_path: Path) -> None:
    result = export("--checkpoint", checkpoint, "--precision", precision, "--repository", tmp_path)
    assert "add --to tensorrt" in refused(result, ParameterError)
    assert not list(tmp_path.iterdir())


def test_a_gpu_that_lacks_the_precision_ends_it_before_it_begins(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "find_spec", lambda _: object())
    monkeypatch.setattr(Cuda, "gpu", lambda _: Gpu("NVIDIA A10", "8.6", "13.0"))
    options = ("--to", "tensorrt", "--precision", "fp8", "--calibration", DEMO / "images")
    result = export("--checkpoint", checkpoint, *options, "--repository", tmp_path)
    assert "8.6 have no fp8" in refused(result, ParameterError)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cause", ["CUDA finds no GPU here", "The NVIDIA driver is too old"])
def test_without_a_gpu_it_says_why_and_what_to_do(
    cause: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_gpu(_: Cuda) -> Gpu:
        raise RuntimeUnavailableError(f"{cause}.")

    monkeypatch.setattr(building, "find_spec", lambda _: object())
    monkeypatch.setattr(Cuda, "gpu", no_gpu)
    result = export("--checkpoint", checkpoint, "--to", "tensorrt", "--repository", tmp_path)
    assert refused(result, RuntimeUnavailableError).startswith(f"{cause}; to build for another machine, give its GPU's")


def test_engines_for_later_versions_are_refused_before_anything_is_exported(checkpoint: Path, tmp_path: Path) -> None:
    options = ("--to", "tensorrt", "--sm", "8.9", "--version-compatible")
    result = export("--checkpoint", checkpoint, *options, "--repository", tmp_path)
    assert "can't be built for later versions of TensorRT" in refused(result, ParameterError)
    assert not list(tmp_path.iterdir())


def test_a_gate_that_nothing_can_measure_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    gate = ("--gate", "0.01", "--annotations", DEMO / "instances.json", "--images", DEMO / "images")
    options = ("--to", "tensorrt", "--sm", "8.9", "--precision", "bf16")
    result = export("--checkpoint", checkpoint, *options, *gate, "--repository", tmp_path)
    assert "--gate can't compare an engine in bf16" in refused(result, ParameterError)
