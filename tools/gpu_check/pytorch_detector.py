"""Whole detectors in PyTorch on a GPU, with the kernels, in fp32 and fp16, with and without a CUDA graph.

They are compared with the references of the operators on the CPU, so that a GPU machine with nothing but PyTorch and
the package `triton` verifies kernels, fixed-size network and rounding. Not run yet.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import torch

from resnest_core.card import ModelCard, read_card
from resnest_core.detector import InProcessDetector
from resnest_core.errors import MissingExtraError
from resnest_core.images import Pixels
from resnest_core.preprocess import PreparedImage
from resnest_core.repository import network_path
from resnest_export.models import ZOO, build
from resnest_export.models.detector import TwoStageDetector
from tests.export import goldens
from tests.weights import REPOSITORY, demo_state_dict, filled
from tools.gpu_check.comparison import BOUNDS, answer, answers, compare, compare_in_turns, prepared, two_images
from tools.gpu_check.machine import NO_GPU, gpu
from tools.gpu_check.outcome import failed, not_run, passed
from tools.gpu_check.pytorch_network import PyTorchRuntime

TITLE = "detectors in PyTorch"
DETECTORS = ("demo", "mask_rcnn_s50")
WAYS = (("fp32", False), ("fp16", False), ("fp16", True))
"""Precision, and whether runs replay a CUDA graph."""
TYPES = {"fp32": torch.float32, "fp16": torch.float16}
TIMED = 10  # runs


def main() -> None:
    """Check each detector in each way."""
    try:
        import triton  # noqa: F401
    except ImportError:
        return not_run(TITLE, str(MissingExtraError("triton", "tensorrt")))
    if not torch.cuda.is_available():
        return not_run(TITLE, "this PyTorch has no CUDA" if gpu() else NO_GPU)
    for name in DETECTORS:
        check(*detector_of(name), "cuda", two_images(), WAYS)
    return None


def detector_of(name: str) -> tuple[TwoStageDetector, ModelCard]:
    """Return the demo with its trained weights, or another detector with the tests' untrained ones; and its card."""
    if name == "demo":
        detector = build(ZOO[name])
        detector.load_state_dict(demo_state_dict())
        return detector, read_card(network_path(REPOSITORY, name))
    return filled(name), goldens.card(name)


def check(
    detector: TwoStageDetector,
    card: ModelCard,
    device: str,
    images: tuple[Pixels, Pixels],
    ways: Sequence[tuple[str, bool]],
) -> None:
    """Compare a detector on a device with the reference on the CPU, and time it; on the CPU no kernels are used."""
    reference = InProcessDetector(PyTorchRuntime(detector, card))
    batch = prepared(images, card)
    expected = answers(reference, batch)
    for precision, cuda_graph in ways:
        name = f"{card.name} in PyTorch, {precision}{', CUDA graph' if cuda_graph else ''}"
        bounds = BOUNDS[precision]
        try:
            runtime = PyTorchRuntime(
                detector,
                card,
                device=device,
                dtype=TYPES[precision],
                kernels=device != "cpu",
                cuda_graph=cuda_graph,
            )
            with InProcessDetector(runtime) as found:
                compare_in_turns(f"{name}, alone", answer(found), answer(reference), images, card, bounds)
                compare(f"{name}, in a batch", expected, answers(found, batch), card, bounds)
                passed(f"{name}, time", f"{milliseconds(found, batch[:1]):.1f} ms per image, median of {TIMED}")
        except Exception as error:  # PyTorch and Triton raise many classes
            failed(name, f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")


def milliseconds(detector: InProcessDetector, batch: Sequence[PreparedImage]) -> float:
    """Return the median time of a batch, with the copies to and from the device."""
    times = []
    for _ in range(TIMED):
        begin = time.perf_counter()
        answers(detector, batch)
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e3


if __name__ == "__main__":
    main()
