"""The generated repository: read back with Triton's own message type, and compared with what is committed."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import example, given
from hypothesis import strategies as st
from tritonclient.grpc.model_config_pb2 import (
    DataType,
    ModelConfig,
    ModelInstanceGroup,
    ModelParameter,
    ModelQueuePolicy,
)
from typer.testing import CliRunner

from resnest_core import tensors
from resnest_core.buckets import Buckets
from resnest_core.card import ModelCard, read_card
from resnest_core.cli import build
from resnest_core.errors import MissingExtraError, ModelNotFoundError
from resnest_core.repository import installed_models, network_path
from resnest_core.runtimes.fake import FAKE_CARD
from resnest_export.triton_repository import model_configs
from resnest_export.triton_repository.model_configs import MADE_BY, configs, to_text
from resnest_export.triton_repository.options import Platform, Serving
from resnest_export.triton_repository.writer import files, write_model, write_repository
from tests.triton.server import REPOSITORY

BOXES_ONLY = FAKE_CARD.model_copy(update={"name": "boxes", "mask_size": None, "classes": ('a "b"', "c\\d\n", "Äö–×")})


def parsed(card: ModelCard, serving: Serving | None = None) -> tuple[ModelConfig, ModelConfig, ModelConfig]:
    """Return the three configurations as Triton reads them."""
    texts = [to_text(config) for config in configs(card, serving or Serving())]
    assert all(text.startswith(MADE_BY) for text in texts)
    ensemble, preprocess, network = (text_format.Parse(text, ModelConfig()) for text in texts)
    assert (ensemble, preprocess, network) == configs(card, serving or Serving())
    return ensemble, preprocess, network


def described(values: object) -> list[tuple[str, str, list[int]]]:
    return [(one.name, DataType.Name(one.data_type), list(one.dims)) for one in values]  # type: ignore[attr-defined]


def test_the_committed_demo_is_what_the_command_writes() -> None:
    card = read_card(network_path(REPOSITORY, "demo"))
    for path, content in files(card, Serving()):
        assert (REPOSITORY / path).read_bytes() == content, f"{path}: run `resnest repository`"


def test_the_ensembles_tensors_are_the_contracts() -> None:
    ensemble, preprocess, _ = parsed(FAKE_CARD)
    asked = [("image", "TYPE_STRING", [1]), ("score_threshold", "TYPE_FP32", [1]), ("want_masks", "TYPE_BOOL", [1])]
    assert described(ensemble.input) == described(preprocess.input) == asked
    assert [one.optional for one in ensemble.input] == [False, True, True]
    assert described(ensemble.output) == [
        ("num_detections", "TYPE_INT64", [1]),
        ("boxes", "TYPE_FP32", [100, 4]),
        ("scores", "TYPE_FP32", [100]),
        ("labels", "TYPE_INT64", [100]),
        ("masks", "TYPE_FP16", [100, 28, 28]),
        ("original_sizes", "TYPE_INT64", [2]),
    ]
    assert (ensemble.platform, ensemble.max_batch_size) == ("ensemble", 1)


def test_the_networks_tensors_are_the_contracts() -> None:
    _, preprocess, network = parsed(FAKE_CARD)
    between = [
        ("images", "TYPE_UINT8", [-1, -1, 3]),
        ("image_sizes", "TYPE_INT64", [2]),
        ("original_sizes", "TYPE_INT64", [2]),
        ("score_thresholds", "TYPE_FP32", [1]),
        ("want_masks", "TYPE_BOOL", [1]),
    ]
    assert described(network.input) == described(preprocess.output) == between
    assert [one.name for one in network.output] == list(tensors.output_names(True))


def test_a_model_without_masks_has_no_tensors_of_masks() -> None:
    for config in parsed(BOXES_ONLY):
        names = {one.name for one in (*config.input, *config.output)}
        assert not names & {tensors.MASKS, tensors.WANT_MASKS}


@pytest.mark.parametrize("card", [FAKE_CARD, BOXES_ONLY], ids=["masks", "boxes"])
def test_the_steps_fit_together(card: ModelCard) -> None:
    ensemble, preprocess, network = parsed(card)
    steps = ensemble.ensemble_scheduling.step
    assert [step.model_name for step in steps] == [preprocess.name, network.name]
    made = {one.name for one in ensemble.input}
    for step, model in zip(steps, (preprocess, network), strict=True):
        assert set(step.input_map) == {one.name for one in model.input}
        assert set(step.input_map.values()) <= made
        assert set(step.output_map) == {one.name for one in model.output}
        assert not made & set(step.output_map.values()), "one name would be two tensors"
        made |= set(step.output_map.values())
    assert {one.name for one in ensemble.output} <= made


def test_the_card_goes_with_each_model_and_survives() -> None:
    for config in parsed(BOXES_ONLY):
        values = {name: value.string_value for name, value in config.parameters.items()}
        assert ModelCard.from_metadata(values, config.name) == BOXES_ONLY


def test_batching_queues_instances_warm_up_cache_and_versions() -> None:
    serving = Serving(
        runtime="openvino",
        threads=3,
        buckets=Buckets.RATIOS,
        max_batch=6,
        queue_delay_microseconds=700,
        timeout_microseconds=9_000_000,
        max_queue=11,
        preprocess_instances=4,
        network_instances=2,
    )
    ensemble, preprocess, network = parsed(FAKE_CARD, serving)
    assert not ensemble.HasField("dynamic_batching") and not ensemble.instance_group
    for config, most, preferred, delay, instances in ((preprocess, 1, [], 0, 4), (network, 6, [3, 6], 700, 2)):
        batching = config.dynamic_batching
        assert (config.backend, config.max_batch_size) == ("python", most)
        assert list(batching.preferred_batch_size) == preferred
        assert batching.max_queue_delay_microseconds == delay
        policy = batching.default_queue_policy
        assert policy.timeout_action == ModelQueuePolicy.REJECT
        assert (policy.default_timeout_microseconds, policy.max_queue_size) == (9_000_000, 11)
        assert policy.allow_timeout_override
        (group,) = config.instance_group
        assert (group.kind, group.count) == (ModelInstanceGroup.KIND_CPU, instances)
    for config in (ensemble, preprocess, network):
        assert config.HasField("response_cache") and not config.response_cache.enable
        assert config.version_policy.latest.num_versions == 1
    assert network.parameters["runtime"].string_value == "openvino"
    assert network.parameters["threads"].string_value == "3"
    assert preprocess.parameters["buckets"].string_value == "ratios"


def test_the_warm_up_request_is_whole() -> None:
    _, _, network = parsed(FAKE_CARD)
    (warmup,) = network.model_warmup
    assert set(warmup.inputs) == {one.name for one in network.input}
    assert list(warmup.inputs["images"].dims) == [320, 448, 3]
    written = dict(files(FAKE_CARD, Serving()))
    for name, one in warmup.inputs.items():
        if name != "images":
            content = written[Path(network.name) / "warmup" / one.input_data_file]
            assert len(content) == np.dtype(tensors.INPUT_TYPES[name]).itemsize * int(np.prod(one.dims))


@pytest.mark.parametrize(
    ("platform", "named", "backend", "filename", "kind"),
    [
        (Platform.ONNXRUNTIME, "onnxruntime_onnx", "onnxruntime", "model.onnx", ModelInstanceGroup.KIND_CPU),
        (Platform.TENSORRT, "tensorrt_plan", "tensorrt", "model.plan", ModelInstanceGroup.KIND_GPU),
    ],
)
def test_tritons_own_backends(platform: Platform, named: str, backend: str, filename: str, kind: int) -> None:
    """These need the official container: their configuration is read here, and has not been run."""
    serving = Serving(platform=platform)
    network = parsed(FAKE_CARD, serving)[2]
    assert (network.platform, network.backend, network.default_model_filename) == (named, backend, filename)
    assert network.instance_group[0].kind == kind
    assert Path("fake_network/1/model.py") not in dict(files(FAKE_CARD, serving))


def test_another_platform_takes_the_python_model_away(tmp_path: Path) -> None:
    model = tmp_path / "fake_network/1/model.py"
    write_model(tmp_path, FAKE_CARD, Serving())
    assert model.exists()
    write_model(tmp_path, FAKE_CARD, Serving(platform=Platform.ONNXRUNTIME))
    assert not model.exists()


@given(st.lists(st.text(), unique=True))
@example(['"', "\\", "a\nb\tc\rd", "\x00\x07\x7f", "Äö–× 漢", "'", "\\n"])
def test_texts_are_read_as_they_were_written_whatever_the_maps_order(values: list[str]) -> None:
    def config(keys: Iterable[str]) -> ModelConfig:
        return ModelConfig(name="n", parameters={key: ModelParameter(string_value=key) for key in keys})

    text = to_text(config(values))
    assert text_format.Parse(text, ModelConfig()) == config(values)
    assert to_text(config(reversed(values))) == text
    first, *others = text.splitlines()
    assert first == MADE_BY.rstrip() and not any(line.startswith("#") for line in others)


@pytest.mark.parametrize(
    "serving",
    [Serving(max_batch=2**31), Serving(max_queue=-1), Serving(network_instances=2**40), Serving(max_batch=0.5)],  # type: ignore[arg-type]
)
def test_what_triton_can_not_read_fails_when_it_is_generated(serving: Serving) -> None:
    with pytest.raises((TypeError, ValueError)):
        configs(FAKE_CARD, serving)


@pytest.mark.parametrize("field", ["max_batchsize", "dynamic_batch"])
def test_a_field_that_triton_does_not_know_fails_when_it_is_generated(
    field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_configs, "NO_CACHE", {field: False})
    with pytest.raises(ValueError, match=field):
        configs(FAKE_CARD, Serving())


@pytest.mark.parametrize("option", ["--max-batch", "--max-queue", "--threads", "--queue-delay-ms", "--queue-timeout"])
def test_the_command_refuses_numbers_that_no_configuration_holds(option: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(build(), ["repository", "--repository", str(tmp_path), option, "9" * 20])
    assert result.exit_code == 2, result.output
    assert option in result.output


def test_a_missing_client_of_triton_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tritonclient.grpc", None)
    monkeypatch.delitem(sys.modules, model_configs.__name__)
    with pytest.raises(MissingExtraError, match=r"tritonclient\[grpc\] is not installed: .*resnest-serving\[export\]"):
        importlib.import_module(model_configs.__name__)


def test_the_command_writes_all_models_or_those_named(tmp_path: Path) -> None:
    for name in ("one", "two"):
        # The cards still tell of the demo, as in a folder that somebody renamed: Triton goes by the folder.
        path = network_path(tmp_path, name)
        path.parent.mkdir(parents=True)
        path.symlink_to(network_path(REPOSITORY, "demo"))
    assert write_repository(tmp_path, Serving()) == installed_models(tmp_path) == ["one", "two"]
    command = ["repository", "one", "--repository", str(tmp_path), "--platform", "onnxruntime", "--max-queue", "5"]
    result = CliRunner().invoke(build(), command)
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "one_network/1/model.py").exists() and (tmp_path / "two_network/1/model.py").exists()
    read = text_format.Parse((tmp_path / "one_network/config.pbtxt").read_text(), ModelConfig())
    assert (read.name, read.dynamic_batching.default_queue_policy.max_queue_size) == ("one_network", 5)
    assert not (tmp_path / "demo").exists()
    with pytest.raises(ModelNotFoundError, match="There is no model 'three'"):
        write_repository(tmp_path, Serving(), ("three",))
