"""Builds an engine in a subprocess, so that a crash of TensorRT is contained, and writes it with its manifest."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import onnx
from packaging.version import Version
from rich.console import Console

from resnest_core.card import ModelCard
from resnest_core.errors import MissingExtraError, ParameterError, RuntimeUnavailableError
from resnest_core.hashing import sha256
from resnest_core.runtimes.tensorrt.cuda import Cuda, Gpu
from resnest_core.runtimes.tensorrt.library import MODULES
from resnest_core.runtimes.tensorrt.manifest import (
    COMPUTE_CAPABILITIES,
    HARDWARE_COMPATIBILITY,
    PLAN,
    EngineManifest,
    Flavour,
    detector_of,
    manifest_path,
    model_of,
    own_checkpoint,
)
from resnest_export.kernels.compiling import kernels_sha256
from resnest_export.tensorrt.builder import EngineBuilder, EngineOptions
from resnest_export.tensorrt.progress import Progress
from resnest_export.tensorrt.rtx_library import findable_by_children

MINIMUM = {"fp8": Version("8.9")}
OURS = Version("8.0")  # compute capability that the kernels are compiled for
CUDA_MAJORS = (13, 12)  # CUDA versions for which TensorRT packages exist


@dataclass(frozen=True)
class Built:
    """Result of the build process: the library's version, and one line of text per layer of the engine."""

    version: str
    layers: tuple[str, ...]


def build_engine(
    graph: onnx.ModelProto, onnx_path: Path, card: ModelCard, options: EngineOptions, detector: str | None = None
) -> Built:
    """Build an engine of `graph`; write it and its manifest to the folder of `onnx_path`.

    Args:
        graph: a fixed-size graph.
        onnx_path: the model's ONNX file, which a runtime uses as the fallback.
        card: the model's card.
        options: build options.
        detector: name of the detector, as in `resnest export`; None: taken from the card.

    Raises:
        MissingExtraError: TensorRT, or the package `triton`, isn't installed.
        RuntimeUnavailableError: there is no GPU to build for, or the builder failed or crashed.
        ParameterError: the GPU doesn't support this precision; the library doesn't support an option; a file can't be
            written.
        InvalidModelError: TensorRT can't read the graph.
    """
    gpu = check_target(card.precision, options.flavour, options.compute_capabilities)
    plan = onnx_path.with_name(PLAN)
    part, source = plan.with_name(f"{PLAN}.part"), plan.with_name("graph.onnx.part")
    try:
        onnx.save(graph, source)
        built = _in_own_process(source, part, options)
        manifest = _manifest(built.version, gpu, onnx_path, part, card, options, detector or detector_of(card))
        # In this order, an interruption can't leave an engine with the manifest of another one.
        manifest_path(plan).unlink(missing_ok=True)
        part.replace(plan)
        manifest.write(manifest_path(plan))
    except OSError as error:
        raise ParameterError(f"{plan} can't be written ({error.strerror}): name another repository.") from error
    finally:
        part.unlink(missing_ok=True)
        source.unlink(missing_ok=True)
    return built


def check_target(precision: str, flavour: Flavour, compute_capabilities: Sequence[str]) -> Gpu | None:
    """Check that the library is installed and the target supported; return this machine's GPU if it is the target.

    Raises:
        MissingExtraError, RuntimeUnavailableError, ParameterError: see `build_engine`.
    """
    module, extra = MODULES[flavour]
    for package, name in ((module, flavour.library), ("triton", "triton")):
        if find_spec(package) is None:
            raise MissingExtraError(name, extra)
    gpu = None if compute_capabilities else _gpu_here()
    for capability in compute_capabilities or ((gpu.compute_capability,) if gpu else ()):
        check_precision(precision, capability)
    return gpu


def _gpu_here() -> Gpu:
    try:
        return Cuda.load().gpu()
    except RuntimeUnavailableError as error:
        raise RuntimeUnavailableError(
            f"{str(error).rstrip('.')}; to build for another machine, give its GPU's compute capability with --sm, "
            "which TensorRT-RTX supports."
        ) from error


def check_precision(precision: str, compute_capability: str) -> None:
    """Raise ParameterError if GPUs of a compute capability, such as "8.9", can't run engines of this precision."""
    here = Version(compute_capability)
    if here < OURS:
        raise ParameterError(
            f"Compute capability {compute_capability} is too old: engines need 8.0 or later, so use onnxruntime there."
        )
    if here < MINIMUM.get(precision, OURS):
        raise ParameterError(
            f"GPUs of compute capability {compute_capability} have no {precision}, "
            f"only from {MINIMUM[precision]} on: "
            "use --precision int8 or fp16."
        )


def _in_own_process(source: Path, destination: Path, options: EngineOptions) -> Built:
    """Build in a subprocess that finds TensorRT-RTX's library and whose crash doesn't end this process."""
    is_rtx = options.flavour is Flavour.RTX
    with (
        findable_by_children() if is_rtx else nullcontext(),
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
    ):
        try:
            return pool.submit(_build, source, destination, options).result()
        except BrokenProcessPool as error:
            raise RuntimeUnavailableError(
                f"{options.flavour.library} crashed while it built the engine: free memory, or try another version."
            ) from error


def _build(source: Path, destination: Path, options: EngineOptions) -> Built:
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    builder = EngineBuilder(options.flavour)
    with Progress(Console(stderr=True)) as progress:
        destination.write_bytes(builder.build(source.read_bytes(), options, progress))
    return Built(builder.version, tuple(builder.layers))


def _manifest(
    version: str, gpu: Gpu | None, onnx_path: Path, plan: Path, card: ModelCard, options: EngineOptions, detector: str
) -> EngineManifest:
    return EngineManifest(
        model=model_of(card),
        detector=detector,
        checkpoint=own_checkpoint(card),
        tensorrt_flavour=options.flavour,
        tensorrt_version=version,
        cuda_version=_cuda_version(options.flavour, gpu),
        gpu_name=gpu.name if gpu else None,
        compute_capability=gpu.compute_capability if gpu else options.compute_capabilities[0],
        precision=card.precision,
        profiles=options.profiles,
        onnx_sha256=sha256(onnx_path),
        kernels_sha256=kernels_sha256(),
        engine_sha256=sha256(plan),
        build_options={
            HARDWARE_COMPATIBILITY: options.hardware_compatibility.value,
            COMPUTE_CAPABILITIES: list(options.compute_capabilities),
            "optimization_level": options.optimization_level,
        },
        project_version=card.project_version,
    )


def _cuda_version(flavour: Flavour, gpu: Gpu | None) -> str:
    """Return the library's CUDA version, from its package's name; without such a package, the driver's version."""
    for major in CUDA_MAJORS:
        try:
            distribution(f"{flavour.value}-cu{major}")
        except PackageNotFoundError:
            continue
        return f"{major}.0"
    return gpu.cuda_version if gpu else f"{CUDA_MAJORS[0]}.0"
