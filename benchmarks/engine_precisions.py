"""Accuracy of each precision of TensorRT engines, measured on a CPU with the networks they are built from.

    python -m benchmarks.engine_precisions demo --checkpoint FILE --calibration DIR --images DIR [--annotations FILE]

Needs the `dev` extra. ONNX Runtime runs the fp16 network with its values rounded to 16 bits and its sums in 32; bf16,
which it doesn't know, is PyTorch's; OpenVINO runs int8 too. Average precision is measured where there are annotations.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from typing_extensions import Self

from resnest_core.card import ModelCard
from resnest_core.detections import Detections
from resnest_core.detector import InProcessDetector
from resnest_core.evaluation import evaluate
from resnest_core.image_folder import image_files
from resnest_core.images import load_image
from resnest_core.runtimes import OnnxRuntime, OpenVinoRuntime, Runtime
from resnest_core.tensors import Tensors, input_names, output_names
from resnest_export.check import agreement
from resnest_export.checkpoint import load_checkpoint, num_classes
from resnest_export.class_files import category_ids, class_names
from resnest_export.configured import find_config
from resnest_export.deployed_detector import DeployedDetector
from resnest_export.models.detector import TwoStageDetector
from resnest_export.pipeline import build_with_weights, make_card
from resnest_export.precision import Precision
from resnest_export.quantize import calibration_images
from resnest_export.tensorrt.engine_export import engine_graph, quantized_engine_graph
from resnest_export.tensorrt.graph import fixed_size_network
from resnest_export.tensorrt.unoptimized import UnoptimizedOnnxRuntime

PIXELS, SCORE = 8.0, 0.1  # by which a detection found again may lie elsewhere and score otherwise


class PyTorchRuntime(Runtime):
    """Runs a network of PyTorch's."""

    name = "PyTorch"

    def __init__(self, network: DeployedDetector, card: ModelCard) -> None:
        self._network = network
        self.card = card

    @classmethod
    def load(cls, path: Path, **options: Any) -> Self:
        raise NotImplementedError("a network of PyTorch's isn't loaded from ONNX")

    def run(self, inputs: Tensors) -> Tensors:
        """See `Runtime.run`."""
        with torch.inference_mode():
            outputs = self._network(*(torch.from_numpy(inputs[name]) for name in input_names(self.card.has_masks)))
        names = output_names(self.card.has_masks)
        return dict(zip(names, (tensor.numpy() for tensor in outputs), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--calibration", type=Path, required=True, help="A folder of photographs.")
    parser.add_argument("--images", type=Path, required=True, help="A folder of photographs to compare on.")
    parser.add_argument("--annotations", type=Path, help="Of the images: COCO's instances in JSON.")
    arguments = parser.parse_args()

    checkpoint = load_checkpoint(arguments.checkpoint)
    count = num_classes(checkpoint.state_dict)
    detector = build_with_weights(find_config(arguments.name), checkpoint)
    classes = class_names(count, None, checkpoint)
    card = make_card(
        find_config(arguments.name), classes, category_ids(None, classes), checkpoint, arguments.checkpoint
    )

    def figures(runtime: Runtime) -> tuple[list[Detections], list[str]]:
        with InProcessDetector(runtime) as detector:
            found = [detector.detect(load_image(path)) for path in image_files(arguments.images)]
            if arguments.annotations is None:
                return found, []
            measured = evaluate(detector, arguments.annotations, arguments.images)
            return found, [f"{each['AP']:.4f}" for each in measured.values()]

    kinds = ["box AP", "mask AP"][: 1 + card.has_masks] if arguments.annotations else []
    table = Table("precision", "runtime", *kinds, "found again", "extra", box=None)
    expected: list[Detections] = []
    with TemporaryDirectory() as folder:
        for precision, runtime, load in networks(
            detector, card, calibration_images(arguments.calibration), Path(folder)
        ):
            found, measured = figures(load())
            expected = expected or found
            rows = [agreement(a, b, card, pixels=PIXELS, score=SCORE) for a, b in zip(expected, found, strict=True)]
            total = sum(row.count for row in rows)
            again = sum(row.found * row.count for row in rows)
            table.add_row(
                precision.value, runtime, *measured, f"{again:.0f} of {total}", str(sum(row.extra for row in rows))
            )
    Console().print(table)


def networks(
    detector: TwoStageDetector, card: ModelCard, images: list[Path], folder: Path
) -> list[tuple[Precision, str, Callable[[], Runtime]]]:
    """Return each precision with a runtime's name and what loads its network there; float32 is the first."""
    paths = {precision: folder / f"{precision.value}.onnx" for precision in Precision}
    for precision in (Precision.FP32, Precision.FP16):
        engine_graph(detector, card, precision, paths[precision])
    for precision in (Precision.INT8, Precision.FP8):
        quantized_engine_graph(detector, card, precision, images, paths[precision])
    bf16 = DeployedDetector(fixed_size_network(detector, torch.bfloat16), card)
    return [
        (Precision.FP32, "ONNX Runtime", lambda: OnnxRuntime.load(paths[Precision.FP32])),
        (Precision.FP16, "ONNX Runtime", lambda: OnnxRuntime.load(paths[Precision.FP16])),
        (Precision.BF16, "PyTorch", lambda: PyTorchRuntime(bf16, card)),
        (Precision.INT8, "ONNX Runtime", lambda: OnnxRuntime.load(paths[Precision.INT8])),
        (Precision.INT8, "OpenVINO", lambda: OpenVinoRuntime.load(paths[Precision.INT8])),
        (Precision.FP8, "ONNX Runtime", lambda: UnoptimizedOnnxRuntime.load(paths[Precision.FP8])),
    ]


if __name__ == "__main__":
    main()
