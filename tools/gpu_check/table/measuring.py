"""Builds and measures one engine: a row of the table. Runs in a process of its own.

`python -m tools.gpu_check.table.measuring MODEL PRECISION FOLDER SECONDS [CHECKPOINT]` prints the row.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import onnx

from resnest_core import tensors
from resnest_core.buckets import Buckets
from resnest_core.detections import Detections
from resnest_core.detector import InProcessDetector
from resnest_core.errors import ResNeStError
from resnest_core.images import Pixels
from resnest_core.preprocess import PreparedImage, stack
from resnest_core.runtimes import OnnxRuntime, Runtime, TensorRtRuntime
from resnest_core.runtimes.tensorrt.cuda import Cuda
from resnest_core.runtimes.tensorrt.manifest import Flavour
from resnest_export.check import agreement
from resnest_export.pipeline import ExportSource
from resnest_export.precision import CALIBRATED, Precision
from resnest_export.request import ExportRequest
from resnest_export.tensorrt.builder import EngineOptions
from resnest_export.tensorrt.engine_export import EngineTarget, engine_graph, export_engine
from tests.weights import save_filled
from tools.gpu_check.comparison import PHOTOGRAPHS, ROUGHLY, answers, prepared, two_images
from tools.gpu_check.table.layers import Layer, layers_of, least_seconds
from tools.gpu_check.table.peaks import Peak, peak_of
from tools.gpu_check.table.results import MARK, Row, Run

BATCHES = (1, 8)


class Reference(NamedTuple):
    """The network that an engine is built from, in fp32: the work of its layers, and what it finds."""

    layers: list[Layer]
    images: list[PreparedImage]
    found: list[Detections]


@dataclass
class BuildClock:
    """Reports an export's lines, and measures its last step: the build, between the last two lines."""

    times: list[float] = field(default_factory=list)

    def __call__(self, line: str, /) -> None:
        self.times.append(time.monotonic())
        print(line, flush=True)

    @property
    def seconds(self) -> float:
        return self.times[-1] - self.times[-2]


def main(empty: Row, folder: Path, seconds: float, checkpoint: Path | None) -> Row:
    """Return the row's figures.

    Raises:
        ResNeStError: the engine can't be built or run.
    """
    cuda = Cuda.load()
    if checkpoint is None:  # the same work as with trained weights
        checkpoint = folder / f"{empty.model}.pth"
        save_filled(empty.model, checkpoint)
    precision = Precision(empty.precision)
    calibration = PHOTOGRAPHS if precision in CALIBRATED else None
    repository = folder / "repository"
    request = ExportRequest(
        empty.model, checkpoint, repository, precision=precision, calibration=calibration, winograd=False
    )
    target = EngineTarget(Buckets.RATIOS, max(BATCHES), EngineOptions(flavour=Flavour.TENSORRT))
    clock = BuildClock()
    path = export_engine(request, target, clock)
    reference = reference_of(request, two_images())
    before = cuda.free_bytes()
    with TensorRtRuntime.load(path) as engine:
        row = measured(empty, engine, reference, peak_of(cuda, empty.precision), seconds)
        memory = (before - cuda.free_bytes()) / 2**30
    return row.model_copy(update={"build_seconds": clock.seconds, "memory_gib": memory})


def reference_of(request: ExportRequest, images: Sequence[Pixels]) -> Reference:
    """Run the fixed-size network in fp32 in ONNX Runtime, and return its layers and what it finds."""
    source = ExportSource.read(request)
    card = source.card(Precision.FP32)
    batch = prepared(images, card)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "fixed_size.onnx"
        engine_graph(source.detector, card, Precision.FP32, path)
        with InProcessDetector(OnnxRuntime.load(path)) as detector:
            found = [answers(detector, [image])[0] for image in batch]
        layers = layers_of(onnx.load(path), inputs_of(batch[:1], card.has_masks))
    return Reference(layers, batch, found)


def measured(empty: Row, runtime: Runtime, reference: Reference, peak: Peak | None, seconds: float) -> Row:
    """Return a row with the figures of a loaded network: speed at each batch size, and agreement."""
    card = runtime.card
    runs = []
    for batch in BATCHES:
        inputs = inputs_of([reference.images[0]] * batch, card.has_masks)
        median = median_seconds(lambda inputs=inputs: runtime.run(inputs), seconds)  # type: ignore[misc]
        least = None if peak is None else least_seconds(reference.layers, batch, empty.precision, peak)
        of_roofline = None if least is None else least / median
        runs.append(
            Run(batch=batch, images_per_second=batch / median, latency_ms=median * 1e3, of_roofline=of_roofline)
        )
    detector = InProcessDetector(runtime)
    figures = [
        agreement(expected, answers(detector, [image])[0], card, score=ROUGHLY.score, pixels=ROUGHLY.pixels)
        for image, expected in zip(reference.images, reference.found, strict=True)
    ]
    count = sum(each.count for each in figures)
    update = {
        "gflop": sum(layer.flop for layer in reference.layers) / 1e9,
        "runs": tuple(runs),
        "detections": count,
        "found_again": sum(each.found * each.count for each in figures) / max(count, 1),
        "score_difference": max(each.score_difference for each in figures),
        "box_difference": max(each.box_difference for each in figures),
    }
    return empty.model_copy(update=update)


def inputs_of(images: Sequence[PreparedImage], has_masks: bool) -> tensors.Tensors:
    """Return the network's tensors of a batch, with the model's own threshold and masks."""
    inputs = dict(stack(images)) | {tensors.SCORE_THRESHOLDS: np.zeros((len(images), 1), np.float32)}
    return inputs | {tensors.WANT_MASKS: np.ones((len(images), 1), bool)} if has_masks else inputs


def median_seconds(run: Callable[[], object], seconds: float) -> float:
    """Return the median time of runs for so many seconds, at least three, after three that warm up."""
    for _ in range(3):
        run()
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


if __name__ == "__main__":
    asked, where, for_seconds, *own = sys.argv[1:]
    try:
        row = main(Row.model_validate_json(asked), Path(where), float(for_seconds), Path(own[0]) if own else None)
    except ResNeStError as error:
        row = Row.model_validate_json(asked).model_copy(update={"error": str(error)})
    print(MARK + row.model_dump_json(), flush=True)
