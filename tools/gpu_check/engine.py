"""Engines of the demo model: built by TensorRT-RTX on any machine; by TensorRT on a GPU, run, and compared.

`python -m tools.gpu_check.engine tensorrt|tensorrt-rtx FOLDER` leaves the engines in FOLDER, a model repository.
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
from resnest_core.detections import Detections
from resnest_core.detector import InProcessDetector
from resnest_core.errors import MissingExtraError, ResNeStError, RuntimeUnavailableError
from resnest_core.images import load_image
from resnest_core.preprocess import PreparedImage, prepare
from resnest_core.repository import load_detector, network_path
from resnest_core.runtimes import OnnxRuntime
from resnest_core.runtimes.tensorrt.manifest import PLAN, EngineManifest, Flavour
from resnest_export.check import agreement, worst
from resnest_export.kernels.contracts import NMS, ROI_ALIGN
from resnest_export.models import ZOO, build
from resnest_export.tensorrt.build import build_engine, check_target
from resnest_export.tensorrt.builder import EngineOptions
from resnest_export.tensorrt.graph import fixed_size_graph
from resnest_export.tensorrt.profiles import profiles
from resnest_export.to_onnx import save_with_card
from tests.weights import REPOSITORY, demo_state_dict
from tools.gpu_check.machine import gpu
from tools.gpu_check.outcome import failed, not_run, passed
from tools.gpu_check.speed import PHOTOGRAPHS

RTX_CAPABILITIES = ("8.0", "8.6", "8.9", "12.0", "12.1")  # that TensorRT-RTX runs on, of those that our kernels run on
RTX_DEFAULT = "8.9"  # to build for where the GPU is none of them, or there is none
MAX_BATCH = 4
TYPES = {"fp32": torch.float32, "fp16": torch.float16}
# How far scores and boxes may be off and still be found again, and how many must be.
BOUNDS = {"fp32": (2e-3, 1.0, 0.99), "fp16": (2e-2, 2.0, 0.95)}


def main(flavour: Flavour, folder: Path) -> None:
    """Build the engines, and run those that are for this GPU."""
    found = gpu()
    here = found.compute_capability if found else None
    if flavour is Flavour.TENSORRT:
        for precision in TYPES:
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
    return compare(precision, path) if is_for_here else None


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


def compare(precision: str, path: Path) -> None:
    """Compare an engine's answers, alone and in a batch, with those of ONNX Runtime on the CPU."""
    name = f"engine of demo beside ONNX Runtime, {precision}"
    score, pixels, most = BOUNDS[precision]
    try:
        with (
            load_detector(path, runtime="tensorrt") as engine,
            InProcessDetector(OnnxRuntime.load(network_path(REPOSITORY, "demo"))) as reference,
        ):
            card = reference.card
            images = [prepare(load_image(file), card) for file in sorted(PHOTOGRAPHS.glob("*.jpg"))[:MAX_BATCH]]
            for kind, batches in (("alone", [[image] for image in images]), ("in a batch", [images])):
                expected = answers(reference, batches)
                # Three times: a shape's first run is a plain one, then it is captured, then launched again.
                pairs = [pair for _ in range(3) for pair in zip(expected, answers(engine, batches), strict=True)]
                figures = worst(agreement(*pair, card, score=score, pixels=pixels) for pair in pairs)
                say = passed if figures.count and figures.found >= most else failed
                say(f"{name}, {kind}", str(figures))
    except ResNeStError as error:
        failed(name, str(error))


def answers(detector: InProcessDetector, batches: Sequence[Sequence[PreparedImage]]) -> list[Detections]:
    """Return what a detector finds in each image of the batches."""
    found = []
    for batch in batches:
        found.extend(detector.infer(batch, [detector.card.score_threshold] * len(batch), [True] * len(batch)))
    return found


if __name__ == "__main__":
    main(Flavour(sys.argv[1]), Path(sys.argv[2]))
