"""Builder of TensorRT and TensorRT-RTX engines; handles the differences between the two Python interfaces."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from resnest_core import tensors
from resnest_core.errors import InvalidModelError, ParameterError, RuntimeUnavailableError
from resnest_core.runtimes.tensorrt.library import load_library
from resnest_core.runtimes.tensorrt.manifest import EngineProfile, Flavour, HardwareCompatibility, ShapeBHW
from resnest_export.tensorrt import callbacks
from resnest_export.tensorrt.progress import Progress

log = logging.getLogger(__name__)

PLUGINS = {
    Flavour.TENSORRT: "resnest_export.tensorrt.plugins_aot",
    Flavour.RTX: "resnest_export.tensorrt.plugins_v3",
}


@dataclass(frozen=True)
class EngineOptions:
    """Build options of an engine.

    Attributes:
        profiles: optimization profiles (supported shapes); at least one.
        flavour: the library that builds and runs the engine.
        compute_capabilities: targets of TensorRT-RTX, such as ("8.9",); empty: this machine's GPU.
        hardware_compatibility: other GPUs that can run the engine; it becomes slightly slower.
        optimization_level: 0…5, how long TensorRT searches for faster kernels; None: TensorRT's default.
        timing_cache: file with earlier measurements, read and updated; None: no cache.
    """

    profiles: tuple[EngineProfile, ...] = ()
    flavour: Flavour = Flavour.TENSORRT
    compute_capabilities: tuple[str, ...] = ()
    hardware_compatibility: HardwareCompatibility = HardwareCompatibility.NONE
    optimization_level: int | None = None
    timing_cache: Path | None = None


class EngineBuilder:
    """Builds engines from ONNX graphs.

    Raises:
        MissingExtraError: the library isn't installed.
    """

    def __init__(self, flavour: Flavour) -> None:
        self.flavour = flavour
        self.trt = load_library(flavour)
        self.layers: list[str] = []
        """One line of text per layer of the engine built last."""
        self._logger = callbacks.logger(self.trt, self.layers)
        _register_plugins(flavour)

    @property
    def version(self) -> str:
        """The library's version."""
        return str(self.trt.__version__)

    def build(self, graph: bytes, options: EngineOptions, progress: Progress) -> bytes:
        """Return the engine of a fixed-size graph in ONNX.

        Raises:
            InvalidModelError: TensorRT can't read the graph, or the graph has no plugin nodes.
            ParameterError: the target GPU or an option isn't supported.
            RuntimeUnavailableError: TensorRT needs a GPU and finds none, or can't build the network.
        """
        builder = self._create(self.trt.Builder, self._logger)
        network = builder.create_network(1 << int(self.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = self.trt.OnnxParser(network, self._logger)
        if not parser.parse(graph):
            raise InvalidModelError(_first_error(self._name, parser))
        self._check_plugins(network)
        config = self._create(builder.create_builder_config)
        for profile in options.profiles:
            config.add_optimization_profile(self._profile(builder, network, profile))
        self._configure(config, options)
        monitor = callbacks.monitor(self.trt, progress)  # TensorRT keeps no reference to it
        config.progress_monitor = monitor
        cache = self._timing_cache(config, options.timing_cache)
        self.layers.clear()
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise RuntimeUnavailableError(
                f"{self._name} can't build this network; the log gives the reason: try another precision or version."
            )
        if cache is not None and options.timing_cache is not None:
            options.timing_cache.write_bytes(bytes(cache.serialize()))
        return bytes(plan)

    @property
    def _name(self) -> str:
        return f"{self.flavour.library} {self.version}"

    def _create(self, make: Any, *arguments: Any) -> Any:
        """Call a constructor that fails without a GPU (TensorRT) or without a driver (both)."""
        try:
            made = make(*arguments)
        except Exception as error:  # TensorRT's bindings raise classes of their own
            raise RuntimeUnavailableError(_needs_gpu(self.flavour)) from error
        if made is None:
            raise RuntimeUnavailableError(_needs_gpu(self.flavour))
        return made

    def _check_plugins(self, network: Any) -> None:
        layers = map(network.get_layer, range(network.num_layers))
        if not any(layer.type == self.trt.LayerType.PLUGIN_V3 for layer in layers):
            raise InvalidModelError("The network has none of the resnest operators: make it with `resnest export`.")

    def _profile(self, builder: Any, network: Any, profile: EngineProfile) -> Any:
        made = builder.create_optimization_profile()
        for index in range(network.num_inputs):
            value = network.get_input(index)
            made.set_shape(value.name, *(_shape(value, bhw) for bhw in (profile.min, profile.opt, profile.max)))
        return made

    def _configure(self, config: Any, options: EngineOptions) -> None:
        trt = self.trt
        # Includes each layer's plugin and type in the log and in the output of `trtexec`.
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        # TF32, on by default, would reduce float32 to a 10-bit significand: layers in float32 need full precision.
        config.clear_flag(trt.BuilderFlag.TF32)
        if options.optimization_level is not None:
            config.builder_optimization_level = options.optimization_level
        if self.flavour is Flavour.RTX:
            if options.hardware_compatibility is not HardwareCompatibility.NONE:
                raise ParameterError(
                    "TensorRT-RTX has no hardware-compatible engines: give --sm several times instead."
                )
            wanted = options.compute_capabilities or ("current",)
            config.num_compute_capabilities = len(wanted)
            for index, capability in enumerate(wanted):
                config.set_compute_capability(_compute_capability(trt, capability), index)
            return
        if options.compute_capabilities:
            raise ParameterError("TensorRT builds for the GPU of this machine: leave --sm out, or use TensorRT-RTX.")
        level = options.hardware_compatibility.name
        if not hasattr(trt.HardwareCompatibilityLevel, level):
            raise ParameterError(f"{self._name} has no hardware compatibility {level.lower()}: install a newer one.")
        config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, level)

    def _timing_cache(self, config: Any, path: Path | None) -> Any:
        if path is None:
            return None
        content = path.read_bytes() if path.is_file() else b""
        cache = config.create_timing_cache(content)
        if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
            log.warning("The timing cache %s is from another version or GPU: it is replaced.", path)
            cache = config.create_timing_cache(b"")
            config.set_timing_cache(cache, ignore_mismatch=False)
        return cache


def _register_plugins(flavour: Flavour) -> None:
    import_module(PLUGINS[flavour]).register()


def _shape(value: Any, shape_bhw: ShapeBHW) -> tuple[int, ...]:
    return (*shape_bhw, 3) if value.name == tensors.IMAGES else (shape_bhw[0], *tuple(value.shape)[1:])


def _compute_capability(trt: Any, capability: str) -> Any:
    member = getattr(trt.ComputeCapability, f"SM{capability.replace('.', '')}".replace("SMcurrent", "CURRENT"), None)
    if member is None:
        known = [name.removeprefix("SM") for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
        listed = ", ".join(f"{name[:-1]}.{name[-1]}" for name in known)
        raise ParameterError(f"TensorRT-RTX builds nothing for compute capability {capability}: use one of {listed}.")
    return member


def _needs_gpu(flavour: Flavour) -> str:
    return f"{flavour.library} finds no GPU to build for: build on the machine that will run the engine" + (
        ", or give its compute capability with --sm." if flavour is Flavour.RTX else "."
    )


def _first_error(name: str, parser: Any) -> str:
    error = parser.get_error(0)
    return f"{name} can't read node {error.node_name()!r} ({error.node_operator()}): {_sentence(error.desc())}"


def _sentence(text: str) -> str:
    return f"{' '.join(text.split()).rstrip('.')}. Export the model again with a newer TensorRT."
