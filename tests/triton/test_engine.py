"""The platform `tensorrt`: its configuration as Triton reads it, and engines that it can't run. Not run with Triton."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup
from typer.testing import CliRunner

from resnest_core.buckets import Buckets
from resnest_core.cli import build
from resnest_core.errors import EngineMismatchError, InvalidModelError, ParameterError
from resnest_core.repository import network_path
from resnest_core.runtimes.fake import FAKE_CARD
from resnest_core.runtimes.tensorrt.manifest import EngineProfile
from resnest_export.request import ExportRequest
from resnest_export.tensorrt import engine_export
from resnest_export.tensorrt.engine_export import EngineTarget
from resnest_export.tensorrt.profiles import profiles
from resnest_export.triton_repository.options import Platform, Serving
from resnest_export.triton_repository.writer import write_model
from tests.core.networks import write_network
from tests.core.tensorrt.manifests import write_engine

# The card's test scale is 533×320: its images are padded to at most 320×544, lying or standing.
LYING = EngineProfile(min=(1, 32, 320), opt=(4, 320, 448), max=(8, 320, 544))
STANDING = EngineProfile(min=(1, 320, 32), opt=(4, 448, 320), max=(8, 544, 320))


def make_repository(folder: Path, **manifest: Any) -> Path:
    """Write the fake model's network and an engine of it, and return the engine's path."""
    onnx = write_network(network_path(folder, "fake"), FAKE_CARD)
    return write_engine(onnx, **{"profiles": (LYING, STANDING)} | manifest)


def network_config(folder: Path, **options: Any) -> ModelConfig:
    """Write the model, and return its network's configuration as Triton reads it."""
    write_model(folder, FAKE_CARD, Serving(platform=Platform.TENSORRT, **options))
    return text_format.Parse((folder / "fake_network/config.pbtxt").read_text(), ModelConfig())


def test_triton_loads_the_engine_on_the_gpu_with_all_its_profiles(tmp_path: Path) -> None:
    make_repository(tmp_path)
    config = network_config(tmp_path, network_instances=2)
    assert (config.platform, config.backend, config.default_model_filename) == (
        "tensorrt_plan",
        "tensorrt",
        "model.plan",
    )
    [group] = config.instance_group
    assert (group.kind, group.count, list(group.profile)) == (ModelInstanceGroup.KIND_GPU, 2, ["0", "1"])
    assert config.max_batch_size == 8
    assert not (tmp_path / "fake_network/1/model.py").exists()
    assert (tmp_path / "fake_network/1/model.plan").exists()


@pytest.mark.parametrize("buckets", Buckets)
@pytest.mark.parametrize("max_batch", [1, 8])
def test_the_profiles_that_are_built_for_buckets_run_all_that_triton_sends_with_them(
    tmp_path: Path, buckets: Buckets, max_batch: int
) -> None:
    built = profiles(FAKE_CARD, buckets, max_batch)
    make_repository(tmp_path, profiles=built)
    config = network_config(tmp_path, buckets=buckets, max_batch=max_batch)
    assert len(config.instance_group[0].profile) == len(built)


@pytest.mark.parametrize("buckets", [Buckets.RATIOS, Buckets.EXACT])
def test_no_graph_is_captured_unless_asked_for(tmp_path: Path, buckets: Buckets) -> None:
    """With graphs Triton has answered with an earlier request's results."""
    make_repository(tmp_path)
    assert not network_config(tmp_path, buckets=buckets).HasField("optimization")


def test_each_profile_allocates_its_own_memory_only(tmp_path: Path) -> None:
    make_repository(tmp_path)
    parameter = network_config(tmp_path).parameters["execution_context_allocation_strategy"]
    assert parameter.string_value == "ON_PROFILE_CHANGE"  # other values than this and STATIC fail when Triton loads it


def test_a_lone_request_waits_for_no_other_and_many_processes_decode(tmp_path: Path) -> None:
    make_repository(tmp_path)
    assert network_config(tmp_path).dynamic_batching.max_queue_delay_microseconds == 0
    assert network_config(tmp_path, queue_delay_microseconds=900).dynamic_batching.max_queue_delay_microseconds == 900
    preprocess = text_format.Parse((tmp_path / "fake_preprocess/config.pbtxt").read_text(), ModelConfig())
    assert preprocess.instance_group[0].count == 4


def test_a_graph_is_captured_for_every_bucket(tmp_path: Path) -> None:
    make_repository(tmp_path)
    cuda = network_config(tmp_path, buckets=Buckets.RATIOS, cuda_graphs=True).optimization.cuda
    assert cuda.graphs
    captured = [(spec.batch_size, *spec.input["images"].dim) for spec in cuda.graph_spec]
    sizes = [(320, 320), (320, 448), (448, 320), (320, 480), (480, 320), (320, 544), (544, 320)]
    assert sorted(captured) == sorted((batch, *size, 3) for size in sizes for batch in (1, 4, 8))
    for spec in cuda.graph_spec:
        shapes = {name: list(shape.dim) for name, shape in spec.input.items()}
        del shapes["images"]
        assert shapes == {
            "image_sizes": [2],
            "original_sizes": [2],
            "score_thresholds": [1],
            "want_masks": [1],
        }


def test_without_buckets_triton_chooses_what_to_capture(tmp_path: Path) -> None:
    make_repository(tmp_path)
    cuda = network_config(tmp_path, cuda_graphs=True).optimization.cuda
    assert cuda.graphs and not cuda.graph_spec


@pytest.mark.parametrize("platform", [Platform.CPU, Platform.ONNXRUNTIME])
def test_other_platforms_need_no_engine_and_have_no_graphs(tmp_path: Path, platform: Platform) -> None:
    with pytest.raises(ParameterError, match="CUDA graphs are of the platform tensorrt: add --platform tensorrt"):
        Serving(platform=platform, cuda_graphs=True)
    write_model(tmp_path, FAKE_CARD, Serving(platform=platform))
    config = text_format.Parse((tmp_path / "fake_network/config.pbtxt").read_text(), ModelConfig())
    assert not config.HasField("optimization") and not config.instance_group[0].profile
    assert "execution_context_allocation_strategy" not in config.parameters
    assert config.dynamic_batching.max_queue_delay_microseconds == 5_000


@pytest.mark.parametrize(
    ("manifest", "options", "sentence"),
    [
        ({}, {"max_batch": 9}, "doesn't run 9 images of 32×544 at once, as Triton would with --max-batch 9"),
        ({"profiles": (LYING,)}, {}, "doesn't run 1 images of 544×32 at once"),
        ({"profiles": (STANDING,)}, {"buckets": Buckets.RATIOS}, "and --buckets ratios: choose others"),
        (
            {"profiles": (EngineProfile(min=(4, 32, 32), opt=(4, 320, 448), max=(8, 544, 544)),)},
            {},
            "doesn't run 1 images of",
        ),
        ({"tensorrt_flavour": "tensorrt-rtx"}, {}, "is one of TensorRT-RTX: build it with TensorRT"),
    ],
)
def test_an_engine_that_does_not_run_all_that_triton_sends_is_refused(
    tmp_path: Path, manifest: dict[str, Any], options: dict[str, Any], sentence: str
) -> None:
    make_repository(tmp_path, **manifest)
    with pytest.raises(ParameterError, match=sentence):
        network_config(tmp_path, **options)
    assert not (tmp_path / "fake").exists(), "half a model was written"


def test_no_engine_a_damaged_one_and_one_of_another_network(tmp_path: Path) -> None:
    onnx = write_network(network_path(tmp_path, "fake"), FAKE_CARD)
    with pytest.raises(InvalidModelError, match=r"model\.plan: run `resnest export NAME .*--to tensorrt --prec"):
        network_config(tmp_path)
    plan = make_repository(tmp_path)
    plan.write_bytes(b"an en")
    with pytest.raises(InvalidModelError, match="is damaged or cut short"):
        network_config(tmp_path)
    make_repository(tmp_path)
    onnx.write_bytes(onnx.read_bytes() + b"\x00")
    with pytest.raises(EngineMismatchError, match=r"was built from another model\.onnx"):
        network_config(tmp_path)


def test_the_command_captures_graphs_where_it_is_told(tmp_path: Path) -> None:
    make_repository(tmp_path)
    command = ["repository", "--repository", str(tmp_path), "--platform", "tensorrt", "--cuda-graphs"]
    result = CliRunner().invoke(build(), command)
    assert result.exit_code == 0, result.output
    assert "graphs: true" in (tmp_path / "fake_network/config.pbtxt").read_text()


def test_the_command_says_so_in_a_sentence(tmp_path: Path) -> None:
    write_network(network_path(tmp_path, "fake"), FAKE_CARD)
    result = CliRunner().invoke(build(), ["repository", "--repository", str(tmp_path), "--platform", "tensorrt"])
    assert isinstance(result.exception, InvalidModelError)
    assert "--to tensorrt" in str(result.exception)


@pytest.mark.parametrize("options", [[], ["--to", "tensorrt", "--sm", "8.9"], ["--to", "onnx", "--sm", "8.9"]])
def test_an_export_for_triton_without_an_engine_that_it_loads_ends_before_it_begins(options: list[str]) -> None:
    result = CliRunner().invoke(build(), ["export", "demo", "--platform", "tensorrt", *options])
    assert isinstance(result.exception, ParameterError)
    assert "--platform tensorrt needs an engine of TensorRT: add --to tensorrt" in str(result.exception)


def test_an_exported_engine_is_configured_with_the_options_that_it_was_built_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def export_engine(request: ExportRequest, target: EngineTarget, _report: object) -> Path:
        assert request == ExportRequest("demo", Path("demo.pth"), tmp_path, winograd=False)
        plan = make_repository(request.repository, profiles=target.options(FAKE_CARD).profiles)
        return plan.with_name("model.onnx")

    monkeypatch.setattr(engine_export, "export_engine", export_engine)
    command = ["export", "demo", "--checkpoint", "demo.pth", "--repository", str(tmp_path), "--to", "tensorrt"]
    result = CliRunner().invoke(build(), [*command, "--platform", "tensorrt", "--max-batch", "6"])
    assert result.exit_code == 0, result.output
    config = text_format.Parse((tmp_path / "fake_network/config.pbtxt").read_text(), ModelConfig())
    assert config.max_batch_size == 6
    preprocess = text_format.Parse((tmp_path / "fake_preprocess/config.pbtxt").read_text(), ModelConfig())
    assert preprocess.parameters["buckets"].string_value == "ratios"
