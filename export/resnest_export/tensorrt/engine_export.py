"""From a checkpoint to a TensorRT engine in the repository, beside the model's ordinary file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import torch

from resnest_core.buckets import Buckets
from resnest_core.card import ModelCard
from resnest_core.detector import InProcessDetector
from resnest_core.errors import ParameterError
from resnest_core.images import load_image
from resnest_core.preprocess import prepare
from resnest_core.runtimes import OnnxRuntime, Runtime
from resnest_core.runtimes.tensorrt.manifest import PLAN
from resnest_export.check import PHOTOGRAPH, check, run_network
from resnest_export.deployed_detector import DeployedDetector
from resnest_export.models.detector import TwoStageDetector
from resnest_export.pipeline import ExportSource, export_network, export_whole
from resnest_export.precision import CALIBRATED, ENGINES_ONLY, Gate, Precision
from resnest_export.request import ExportRequest
from resnest_export.tensorrt.build import build_engine, check_target
from resnest_export.tensorrt.builder import EngineOptions
from resnest_export.tensorrt.fixed_size import MAX_CANDIDATES, FixedSizeDetector, check_settings
from resnest_export.tensorrt.graph import fixed_size_graph, runnable, without_bodies
from resnest_export.tensorrt.profiles import profiles
from resnest_export.tensorrt.quantization import quantize_graph
from resnest_export.tensorrt.unoptimized import UnoptimizedOnnxRuntime
from resnest_export.to_onnx import save_with_card

HALF = {Precision.FP16: torch.float16, Precision.BF16: torch.bfloat16}
MEASURABLE = (Precision.FP16, Precision.INT8, Precision.FP8)
"""Precisions whose cost a CPU can measure: ONNX Runtime has no bfloat16."""


@dataclass(frozen=True)
class EngineTarget:
    """What an engine is for: images padded to `buckets`, in batches of at most `max_batch`; and how it is built."""

    buckets: Buckets
    max_batch: int
    building: EngineOptions
    """All but the profiles, which follow from the model, the buckets and the batch."""

    def options(self, card: ModelCard) -> EngineOptions:
        """Return how the engine of a model is built."""
        return replace(self.building, profiles=profiles(card, self.buckets, self.max_batch))


def export_engine(request: ExportRequest, target: EngineTarget, report: Callable[[str], None] = print) -> Path:
    """Export a detector as `export_detector` does, build its engine beside that file, and return the file's path.

    Before the engine is built, its network is compared with the detector in PyTorch, in fp32 and in its own precision,
    and held against the request's gate.

    Raises:
        what `export_detector` and `build_engine` raise.
    """
    precision = request.precision
    if request.gate and precision not in MEASURABLE:
        raise ParameterError(f"--gate can't hold an engine in {precision.value} against fp32: leave it out.")
    check_target(precision.value, target.building.flavour, target.building.compute_capabilities)
    source = ExportSource.read(request)
    check_settings(source.config.settings)
    onnx_path = export_network(source, None, report)
    card = source.card(precision)
    with TemporaryDirectory() as folder:
        graph = _checked_graph(source, onnx_path, Path(folder), report)
    report(f"Building {onnx_path.with_name(PLAN)} takes minutes …")
    built = build_engine(graph, onnx_path, card, target.options(card), source.configured.config.name)
    report(f"{onnx_path.with_name(PLAN)}: built with {target.building.flavour.library} {built.version}")
    return onnx_path


def _checked_graph(
    source: ExportSource, onnx_path: Path, folder: Path, report: Callable[[str], None]
) -> onnx.ModelProto:
    """Return the engine's fixed-size graph, compared with PyTorch and held against the gate.

    The graph in fp32 has to answer what the detector answers in which nothing is folded or of a fixed size; of the
    precision only figures are reported.
    """
    precision = source.request.precision
    card, exact_card = source.card(precision), source.card(Precision.FP32)
    exact, path = folder / "float32.onnx", folder / "fixed_size.onnx"
    graph = engine_graph(source.detector, exact_card, Precision.FP32, exact)
    network = DeployedDetector(source.detector, exact_card)
    for line in check(exact, network, exact_card):
        report(f"The engine's network in fp32: {line}")
    count = candidates(source.detector, card)
    report(
        f"The most classes of proposals that the photograph had above the threshold: {count}; "
        f"an engine looks at the best {MAX_CANDIDATES}."
    )
    if precision is Precision.FP32:
        return graph
    if precision in CALIBRATED:
        quantize_graph(exact, path, card, precision, source.photographs)
        graph = without_bodies(onnx.load(path))
    else:
        graph = engine_graph(source.detector, card, precision, path)
    if precision not in MEASURABLE:
        report(f"In {precision.value} it isn't compared with PyTorch: nothing on a CPU runs that in ONNX.")
        return graph
    runtime = UnoptimizedOnnxRuntime if precision is Precision.FP8 else OnnxRuntime
    for line in check(path, network, card, runtime):
        report(f"The engine's network in {precision.value}: {line}")
    if source.request.gate:
        _hold_against_gate(source, source.request.gate, onnx_path, runtime.load(path), folder, report)
    return graph


def _hold_against_gate(
    source: ExportSource,
    gate: Gate,
    onnx_path: Path,
    network: Runtime,
    folder: Path,
    report: Callable[[str], None],
) -> None:
    """Compare an engine's network with the file for CPUs in fp32, which shares no fixed size with it."""
    whole = onnx_path
    if source.request.precision not in ENGINES_ONLY or source.config != source.whole:
        whole = folder / "whole.onnx"
        export_whole(source, whole)
    with InProcessDetector(OnnxRuntime.load(whole)) as before, InProcessDetector(network) as after:
        gate.check(before, after, report)


def candidates(detector: TwoStageDetector, card: ModelCard) -> int:
    """Return how many classes of proposals a detector finds above the threshold on the photograph of the checks."""
    network = FixedSizeDetector(detector)
    run_network(DeployedDetector(network, card), [prepare(load_image(PHOTOGRAPH), card)], [card.score_threshold], card)
    return network.most_candidates


def engine_graph(detector: TwoStageDetector, card: ModelCard, precision: Precision, path: Path) -> onnx.ModelProto:
    """Return the fixed-size graph of a detector in fp32, fp16 or bf16, and write a copy that runtimes on CPUs run.

    Args:
        detector: in float32, as it was built; it isn't changed.
        card: of the model.
        precision: of the engine.
        path: the copy's.
    """
    graph = fixed_size_graph(detector, card, HALF.get(precision, torch.float32))
    if precision is Precision.BF16:
        onnx.save(runnable(graph), path)  # ONNX's checker of this opset knows no convolution in bfloat16
    else:
        save_with_card(runnable(graph), card, path)
    return graph
