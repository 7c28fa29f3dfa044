"""Engines of the demo model: built by TensorRT-RTX on any machine; by TensorRT on a GPU, run, and compared.

`python -m tools.gpu_check.engine tensorrt|tensorrt-rtx FOLDER [PRECISION…]` leaves the engines in FOLDER, a model
repository.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch

from resnest_core.buckets import Buckets
from resnest_core.card import ModelCard, read_card
from resnest_core.detector import InProcessDetector
from resnest_core.errors import MissingExtraError, ResNeStError, RuntimeUnavailableError
from resnest_core.images import load_image
from resnest_core.repository import network_path
from resnest_core.runtimes import OnnxRuntime, TensorRtRuntime
from resnest_core.runtimes.tensorrt.manifest import PLAN, EngineManifest, Flavour
from resnest_export.kernels.contracts import NMS, ROI_ALIGN
from resnest_export.models import ZOO, build
from resnest_export.tensorrt.build import build_engine, check_target
from resnest_export.tensorrt.builder import EngineOptions
from resnest_export.tensorrt.graph import fixed_size_graph
from resnest_export.tensorrt.profiles import profiles
from resnest_export.to_onnx import save_with_card
from tests.weights import REPOSITORY, demo_state_dict
from tools.gpu_check.comparison import (
    BOUNDS,
    PHOTOGRAPHS,
    SAME_NETWORK,
    answer,
    answers,
    compare,
    compare_in_turns,
    prepared,
    two_images,
)
from tools.gpu_check.machine import gpu
from tools.gpu_check.outcome import failed, not_run, passed

RTX_CAPABILITIES = ("8.0", "8.6", "8.9", "12.0", "12.1")  # that TensorRT-RTX runs on, of those that our kernels run on
RTX_DEFAULT = "8.9"  # to build for where the GPU is none of them, or there is none
MAX_BATCH = 4
TYPES = {"fp32": torch.float32, "fp16": torch.float16}


def main(flavour: Flavour, folder: Path, precisions: Sequence[str] = tuple(TYPES)) -> None:
    """Build the engines, in the precisions if of TensorRT, and run those that are for this GPU."""
    found = gpu()
    here = found.compute_capability if found else None
    if flavour is Flavour.TENSORRT:
        for precision in precisions:
            build_one(precision, flavour, folder, (), is_for_here=True)
    else:
        is_for_here = here in RTX_CAPABILITIES
        target = here if is_for_here and here else RTX_DEFAULT
        build_one("fp32", flavour, folder / "rtx", (target,), is_for_here)


def build_one(
    precision: str, flavour: Flavour, repository: Path, compute_capabilities: tuple[str, ...], is_for_here: bool
) -> None:
    """Build the engine in one precision; where it is for this machine, compare its answers with ONNX Runtime's."""
    name = f"engine of demo, {flavour.library}, {precision}"
    started = time.monotonic()
    card = read_card(network_path(REPOSITORY, "demo"))
    options = EngineOptions(profiles(card, Buckets.EXACT, MAX_BATCH), flavour, compute_capabilities)
    try:
        check_target(precision, flavour, compute_capabilities)
    except (MissingExtraError, RuntimeUnavailableError) as error:
        return not_run(name, str(error))
    try:
        path, layers = write_engine(precision, card, options, repository)
        plan = path.with_name(PLAN)
        EngineManifest.find(plan, card).check_files(plan)
    except ResNeStError as error:
        return failed(name, str(error))
    plugins = {each.name: sum(each.name in layer for layer in layers) for each in (ROI_ALIGN, NMS)}
    size = plan.stat().st_size / 2**20
    what = ", ".join(f"{count} × {plugin}" for plugin, count in plugins.items())
    say = passed if all(plugins.values()) else failed
    say(name, f"{size:.0f} MiB, {len(layers)} layers, among them {what}; {time.monotonic() - started:.0f} s")
    return compare_with_onnx_runtime(precision, path) if is_for_here else None


def write_engine(
    precision: str, card: ModelCard, options: EngineOptions, repository: Path
) -> tuple[Path, tuple[str, ...]]:
    """Write the demo's ordinary file and its engine; return the file's path, and a line for each layer.

    Raises:
        ResNeStError: it can't be built here.
    """
    if precision != "fp32":
        card = card.model_copy(update={"name": f"demo_{precision}", "precision": precision})
    path = network_path(repository, card.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_with_card(onnx.load(network_path(REPOSITORY, "demo")), card, path)
    detector = build(ZOO["demo"])
    detector.load_state_dict(demo_state_dict())
    graph = fixed_size_graph(detector, card, TYPES[precision])
    return path, build_engine(graph, path, card, options, "demo").layers


def compare_with_onnx_runtime(precision: str, path: Path) -> None:
    """Compare an engine's answers, alone, in a batch and with CUDA graphs, with those of ONNX Runtime on the CPU."""
    name = f"engine of demo beside ONNX Runtime, {precision}"
    bounds = BOUNDS[precision]
    try:
        with (
            InProcessDetector(TensorRtRuntime.load(path, cuda_graphs=False)) as engine,
            InProcessDetector(OnnxRuntime.load(network_path(REPOSITORY, "demo"))) as reference,
        ):
            card = reference.card
            images = prepared([load_image(file) for file in sorted(PHOTOGRAPHS.glob("*.jpg"))[:MAX_BATCH]], card)
            for kind, batches in (("alone", [[image] for image in images]), ("in a batch", [images])):
                expected, found = (
                    [each for batch in batches for each in answers(detector, batch)] for detector in (reference, engine)
                )
                compare(f"{name}, {kind}", expected, found, card, bounds)
            check_cuda_graphs(f"engine of demo with CUDA graphs beside without, {precision}", path, engine)
    except ResNeStError as error:
        failed(name, str(error))


def check_cuda_graphs(name: str, path: Path, without: InProcessDetector) -> None:
    """Compare an engine that replays CUDA graphs with itself; these decide whether graphs may be turned on.

    A shape's first run is a plain one, its second is captured, and later ones are replayed.
    """
    runtime = TensorRtRuntime.load(path, cuda_graphs=True)
    with InProcessDetector(runtime) as engine:
        compare_in_turns(name, answer(engine), answer(without), two_images(), engine.card, SAME_NETWORK)
        if not runtime.captured:
            failed(name, "TensorRT captured no graph, so that nothing is checked: its log says why")


if __name__ == "__main__":
    main(Flavour(sys.argv[1]), Path(sys.argv[2]), tuple(sys.argv[3:]))
