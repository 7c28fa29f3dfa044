"""Exports a checkpoint to a TensorRT engine, stored in the repository next to the model's ONNX file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from resnest_export.tensorrt.graph import fixed_size_graph, runnable
from resnest_export.tensorrt.profiles import profiles
from resnest_export.tensorrt.quantization import quantized_graph
from resnest_export.tensorrt.unoptimized import UnoptimizedOnnxRuntime
from resnest_export.to_onnx import save_with_card

HALF = {Precision.FP16: torch.float16, Precision.BF16: torch.bfloat16}
MEASURABLE = (Precision.FP16, Precision.INT8, Precision.FP8)
"""Precisions whose accuracy can be measured on a CPU: ONNX Runtime lacks bfloat16 there."""


@dataclass(frozen=True)
class EngineTarget:
    """Input shapes of an engine (images padded to `buckets`, batches of at most `max_batch`) and its build options."""

    buckets: Buckets
    max_batch: int
    building: EngineOptions
    """Build options without the profiles, which follow from the model, the buckets and the batch."""

    def options(self, card: ModelCard) -> EngineOptions:
        """Return the build options of a model's engine, including its profiles."""
        return replace(self.building, profiles=profiles(card, self.buckets, self.max_batch))


def export_engine(request: ExportRequest, target: EngineTarget, report: Callable[[str], None] = print) -> Path:
    """Export a detector like `export_detector`, build its engine in the same folder, and return the ONNX file's path.

    Before the build, the engine's network is compared with the detector in PyTorch, in fp32 and in the requested
    precision, and checked against the request's gate.

    Raises:
        ResNeStError: the errors of `export_detector` and `build_engine`.
    """
    precision = request.precision
    if request.gate and precision not in MEASURABLE:
        raise ParameterError(f"--gate can't compare an engine in {precision.value} with fp32: leave it out.")
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
    """Return the engine's fixed-size graph, compared with PyTorch and checked against the gate.

    The fp32 graph must reproduce the detections of the unmodified detector (dynamic sizes, batch norms not folded);
    for a lower precision the differences are only reported.
    """
    precision = source.request.precision
    card, exact_card = source.card(precision), source.card(Precision.FP32)
    exact, path = folder / "float32.onnx", folder / "fixed_size.onnx"
    graph = engine_graph(source.detector, exact_card, Precision.FP32, exact)
    for line in check(exact, source.reference, exact_card):
        report(f"The engine's network in fp32: {line}")
    count = candidates(source.detector, card)
    report(
        f"Pairs of proposal and class above the threshold on the photograph: {count}; "
        f"an engine processes the best {MAX_CANDIDATES}."
    )
    if precision is Precision.FP32:
        return graph
    if precision in CALIBRATED:
        graph = quantized_engine_graph(source.detector, card, precision, source.photographs, path)
    else:
        graph = engine_graph(source.detector, card, precision, path)
    if precision not in MEASURABLE:
        report(f"Not compared with PyTorch in {precision.value}: ONNX Runtime can't run {precision.value} on a CPU.")
        return graph
    runtime = UnoptimizedOnnxRuntime if precision is Precision.FP8 else OnnxRuntime
    for line in check(path, source.reference, card, runtime):
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
    """Compare the accuracy of an engine's network with that of the fp32 ONNX file, which has dynamic sizes."""
    whole = onnx_path
    if source.request.precision not in ENGINES_ONLY or source.config != source.whole:
        whole = folder / "whole.onnx"
        export_whole(source, whole)
    with InProcessDetector(OnnxRuntime.load(whole)) as before, InProcessDetector(network) as after:
        gate.check(before, after, report)


def candidates(detector: TwoStageDetector, card: ModelCard) -> int:
    """Return the number of (proposal, class) pairs with a score above the threshold on the check's photograph."""
    network = FixedSizeDetector(detector)
    run_network(DeployedDetector(network, card), [prepare(load_image(PHOTOGRAPH), card)], [card.score_threshold], card)
    return network.most_candidates


def engine_graph(detector: TwoStageDetector, card: ModelCard, precision: Precision, path: Path) -> onnx.ModelProto:
    """Return the fixed-size graph of a detector in fp32, fp16 or bf16, and write a copy that CPU runtimes can run.

    Args:
        detector: an unmodified float32 detector; it isn't changed.
        card: the model's card.
        precision: the engine's precision.
        path: path of the copy.
    """
    graph = fixed_size_graph(detector, card, HALF.get(precision, torch.float32))
    if precision is Precision.BF16:
        onnx.save(runnable(graph), path)  # ONNX's checker rejects bfloat16 convolutions in this opset
    else:
        save_with_card(runnable(graph), card, path)
    return graph


def quantized_engine_graph(
    detector: TwoStageDetector, card: ModelCard, precision: Precision, images: Sequence[Path], path: Path
) -> onnx.ModelProto:
    """Return the fixed-size graph of a detector in int8 or fp8, and write a copy that CPU runtimes can run to `path`.

    Args:
        detector: an unmodified float32 detector; it isn't changed.
        card: the model's card.
        precision: the engine's precision.
        images: photographs for calibration.
        path: path of the copy.
    """
    graph = quantized_graph(fixed_size_graph(detector, card, torch.float16), card, precision, images)
    save_with_card(runnable(graph), card, path)
    return graph
