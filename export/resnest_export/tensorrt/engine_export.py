"""From a checkpoint to a TensorRT engine in the repository, beside the model's ordinary file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import torch

from resnest_core.buckets import Buckets
from resnest_core.card import ModelCard, read_card
from resnest_core.detector import InProcessDetector
from resnest_core.errors import ParameterError
from resnest_core.runtimes import OnnxRuntime
from resnest_core.runtimes.tensorrt.manifest import PLAN
from resnest_export.check import check
from resnest_export.checkpoint import load_checkpoint
from resnest_export.deployed_detector import DeployedDetector
from resnest_export.models.detector import TwoStageDetector
from resnest_export.pipeline import build_with_weights, calibration_of, export_detector, find_config, fitted
from resnest_export.precision import CALIBRATED, Gate, Precision
from resnest_export.tensorrt.build import build_engine, check_target
from resnest_export.tensorrt.builder import EngineOptions
from resnest_export.tensorrt.fixed_size import MAX_CANDIDATES, FixedSizeDetector
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


def export_engine(
    name: str,
    checkpoint_path: Path,
    repository: Path,
    target: EngineTarget,
    *,
    classes_file: Path | None = None,
    precision: Precision = Precision.FP32,
    calibration: Path | None = None,
    gate: Gate | None = None,
    max_proposals: int | None = None,
    report: Callable[[str], None] = print,
) -> Path:
    """Export a detector as `export_detector` does, build its engine beside that file, and return the file's path.

    Before the engine is built, its network is compared with PyTorch in ONNX Runtime, and held against `gate`.

    Raises:
        what `export_detector` and `build_engine` raise.
    """
    config = find_config(name)
    if gate and precision not in MEASURABLE:
        raise ParameterError(f"--gate can't hold an engine in {precision.value} against fp32: leave it out.")
    check_target(precision.value, target.building.flavour, target.building.compute_capabilities)
    images = calibration_of(precision, calibration)
    onnx_path = export_detector(
        name,
        checkpoint_path,
        repository,
        classes_file=classes_file,
        precision=precision,
        calibration=calibration,
        max_proposals=max_proposals,
        report=report,
    )
    card = read_card(onnx_path)
    checkpoint = load_checkpoint(checkpoint_path)
    whole, config = fitted(config, checkpoint, max_proposals)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "fixed_size.onnx"
        graph = engine_graph(build_with_weights(config, checkpoint), card, precision, images, path)
        if precision is Precision.BF16:
            report("The engine's network isn't compared with PyTorch: nothing on a CPU runs bfloat16 in ONNX.")
        else:
            runtime = UnoptimizedOnnxRuntime if precision is Precision.FP8 else OnnxRuntime
            network = FixedSizeDetector(build_with_weights(config, checkpoint))
            for line in check(path, DeployedDetector(network), card, runtime):
                report(f"The engine's network: {line}")
            report(
                f"The most classes of proposals that an image had above the threshold: {network.most_candidates}; "
                f"an engine looks at the best {MAX_CANDIDATES}."
            )
            if gate:
                exact = Path(folder) / "exact.onnx"
                engine_graph(build_with_weights(whole, checkpoint), card, Precision.FP32, (), exact)
                with (
                    InProcessDetector(OnnxRuntime.load(exact)) as before,
                    InProcessDetector(runtime.load(path)) as after,
                ):
                    gate.check(before, after, report)
    report(f"Building {onnx_path.with_name(PLAN)} takes minutes …")
    built = build_engine(graph, onnx_path, card, target.options(card))
    report(f"{onnx_path.with_name(PLAN)}: built with {target.building.flavour.library} {built.version}")
    return onnx_path


def engine_graph(
    detector: TwoStageDetector, card: ModelCard, precision: Precision, images: Sequence[Path], path: Path
) -> onnx.ModelProto:
    """Return the fixed-size graph of a detector in a precision, and write a copy that runtimes on CPUs run.

    Args:
        detector: in float32, as it was built; it is changed.
        card: of the model.
        precision: of the engine.
        images: photographs to calibrate on, for int8 and fp8.
        path: the copy's.
    """
    graph = fixed_size_graph(detector, card, HALF.get(precision, torch.float32))
    if precision is Precision.BF16:
        onnx.save(runnable(graph), path)  # ONNX's checker of this opset knows no convolution in bfloat16
        return graph
    save_with_card(runnable(graph), card, path)
    if precision not in CALIBRATED:
        return graph
    exact = path.with_name("float32.onnx")
    path.replace(exact)
    quantize_graph(exact, path, card, precision, images)
    return without_bodies(onnx.load(path))
