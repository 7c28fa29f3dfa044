"""What TensorRT's own builder is asked for, on a stand-in: it builds nothing where there is no GPU."""

from __future__ import annotations

import enum
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from rich.console import Console

from resnest_core.errors import InvalidModelError, ParameterError, RuntimeUnavailableError
from resnest_core.runtimes.tensorrt.manifest import EngineProfile, Flavour, HardwareCompatibility
from resnest_export.tensorrt import builder as module
from resnest_export.tensorrt.builder import EngineBuilder, EngineOptions
from resnest_export.tensorrt.progress import Progress

OPTIONS = EngineOptions((EngineProfile(min=(1, 320, 320), opt=(2, 320, 448), max=(4, 320, 544)),))


class Logger:
    Severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2, VERBOSE=4)


class Monitor: ...


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A stand-in whose network has one plugin and the inputs `images` and `image_sizes`."""
    fake = MagicMock()
    fake.__version__ = "10.13.2.6"
    fake.ILogger, fake.IProgressMonitor = Logger, Monitor
    fake.HardwareCompatibilityLevel = enum.Enum("HardwareCompatibilityLevel", "NONE AMPERE_PLUS")  # type: ignore[misc]
    fake.NetworkDefinitionCreationFlag.STRONGLY_TYPED = 3
    network = fake.Builder.return_value.create_network.return_value
    network.num_layers, network.num_inputs = 1, 2
    network.get_layer.return_value.type = fake.LayerType.PLUGIN_V3
    network.get_input.side_effect = [
        SimpleNamespace(name="images", shape=(-1, -1, -1, 3)),
        SimpleNamespace(name="image_sizes", shape=(-1, 2)),
    ]
    fake.Builder.return_value.build_serialized_network.return_value = b"an engine"
    monkeypatch.setattr(module, "load_library", lambda _: fake)
    monkeypatch.setattr(module, "_register_plugins", lambda _: None)
    return fake


def build(options: EngineOptions) -> bytes:
    return EngineBuilder(Flavour.TENSORRT).build(b"a graph", options, Progress(Console(quiet=True)))


def config(trt: Any) -> Any:
    return trt.Builder.return_value.create_builder_config.return_value


def test_the_network_is_strongly_typed_and_has_the_profiles(trt: Any) -> None:
    assert build(OPTIONS) == b"an engine"
    trt.Builder.return_value.create_network.assert_called_once_with(1 << 3)
    profile = trt.Builder.return_value.create_optimization_profile.return_value
    assert [call.args for call in profile.set_shape.call_args_list] == [
        ("images", (1, 320, 320, 3), (2, 320, 448, 3), (4, 320, 544, 3)),
        ("image_sizes", (1, 2), (2, 2), (4, 2)),
    ]
    config(trt).add_optimization_profile.assert_called_once_with(profile)
    assert isinstance(config(trt).progress_monitor, Monitor)
    config(trt).set_flag.assert_not_called()
    assert config(trt).hardware_compatibility_level is trt.HardwareCompatibilityLevel.NONE


def test_compatible_engines_on_demand(trt: Any) -> None:
    build(replace(OPTIONS, hardware_compatibility=HardwareCompatibility.AMPERE_PLUS, optimization_level=5))
    assert config(trt).hardware_compatibility_level is trt.HardwareCompatibilityLevel.AMPERE_PLUS
    assert config(trt).builder_optimization_level == 5


def test_a_level_that_this_version_has_not_is_told(trt: Any) -> None:
    level = HardwareCompatibility.SAME_COMPUTE_CAPABILITY
    with pytest.raises(ParameterError, match=r"TensorRT 10\.13\.2\.6 has no hardware compatibility same_compute"):
        build(replace(OPTIONS, hardware_compatibility=level))
    assert not trt.Builder.return_value.build_serialized_network.called


def test_what_was_measured_is_kept(trt: Any, tmp_path: Path) -> None:
    path = tmp_path / "timings"
    path.write_bytes(b"of before")
    config(trt).create_timing_cache.return_value.serialize.return_value = b"of now"
    build(replace(OPTIONS, timing_cache=path))
    config(trt).create_timing_cache.assert_called_once_with(b"of before")
    assert path.read_bytes() == b"of now"


def test_a_timing_cache_of_another_gpu_is_made_anew(trt: Any, tmp_path: Path) -> None:
    config(trt).set_timing_cache.side_effect = [False, True]
    config(trt).create_timing_cache.return_value.serialize.return_value = b"of now"
    build(replace(OPTIONS, timing_cache=tmp_path / "timings"))
    assert [call.args for call in config(trt).create_timing_cache.call_args_list] == [(b"",), (b"",)]


def test_a_compute_capability_is_for_tensorrt_rtx(trt: Any) -> None:
    with pytest.raises(ParameterError, match="TensorRT builds for the GPU of this machine"):
        build(replace(OPTIONS, compute_capabilities=("8.9",)))
    assert trt.Builder.called


def test_without_a_gpu_it_says_so(trt: Any) -> None:
    trt.Builder.side_effect = TypeError("pybind11::init(): factory function returned nullptr")
    with pytest.raises(RuntimeUnavailableError, match="TensorRT finds no GPU to build for"):
        build(OPTIONS)


def test_a_build_that_fails_is_told(trt: Any) -> None:
    trt.Builder.return_value.build_serialized_network.return_value = None
    with pytest.raises(RuntimeUnavailableError, match="can't build this network; the log gives the reason"):
        build(OPTIONS)


def test_a_network_without_plugins_is_refused(trt: Any) -> None:
    trt.Builder.return_value.create_network.return_value.num_layers = 0
    with pytest.raises(InvalidModelError, match="none of the resnest operators"):
        build(OPTIONS)


@pytest.mark.usefixtures("trt")
def test_the_log_lists_the_layers(caplog: pytest.LogCaptureFixture) -> None:
    builder = EngineBuilder(Flavour.TENSORRT)
    told = builder._logger
    told.log(Logger.Severity.VERBOSE, "Layers:\nName: BatchedNMS_0, LayerType: PluginV3\n\nBindings:")
    told.log(Logger.Severity.ERROR, "no memory")
    assert builder.layers == ["Name: BatchedNMS_0, LayerType: PluginV3"]
    assert caplog.messages[-1] == "TensorRT: no memory"
    assert caplog.records[-1].levelname == "ERROR"
