"""Whether an exported file answers what the PyTorch detector answers, on a photograph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from resnest_core import tensors
from resnest_core.card import ModelCard
from resnest_core.detections import Detections
from resnest_core.detector import InProcessDetector, unpack
from resnest_core.errors import InvalidModelError
from resnest_core.images import load_image
from resnest_core.preprocess import PreparedImage, prepare, stack
from resnest_core.runtimes import OnnxRuntime
from resnest_export.deployed import DeployedDetector

PHOTOGRAPH = Path(__file__).with_name("data") / "photograph.jpg"
FOUND = 0.99  # of PyTorch's detections, at least
EXTRA = 2  # detections that PyTorch doesn't have, at most
BATCH_SCORE, BATCH_PIXELS = 1e-4, 0.01  # by which a batch may differ from singles


@dataclass(frozen=True)
class Agreement:
    """How much of one answer stands in another: differences are the largest among the pairs found."""

    count: int
    found: float
    extra: int
    score_difference: float
    box_difference: float
    mask_difference: float

    def __str__(self) -> str:
        return (
            f"{self.count} detections, {self.found:.1%} found again, {self.extra} extra, scores within "
            f"{self.score_difference:.1e}, boxes within {self.box_difference:.1e} px, "
            f"masks within {self.mask_difference:.1e}"
        )


def agreement(expected: Detections, answer: Detections, pixels: float = 1.0, score: float = 2e-3) -> Agreement:
    """Pair detections of the same class whose boxes and scores differ by at most `pixels` and `score`."""
    free = np.ones(len(answer), bool)
    pairs: list[tuple[int, int]] = []
    for i in range(len(expected)):
        distance = np.abs(answer.boxes_xyxy - expected.boxes_xyxy[i]).max(axis=1, initial=0)
        near = np.abs(answer.scores - expected.scores[i]) <= score
        fits = free & near & (answer.labels == expected.labels[i]) & (distance <= pixels)
        if fits.any():
            j = int(np.where(fits, distance, np.inf).argmin())
            free[j] = False
            pairs.append((i, j))
    left, right = (np.array(side, int) for side in (zip(*pairs, strict=True) if pairs else ((), ())))

    def largest(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.abs(a[left].astype(np.float32) - b[right].astype(np.float32)).max(initial=0))

    masks = expected.masks is not None and answer.masks is not None
    return Agreement(
        count=len(expected),
        found=len(pairs) / len(expected) if len(expected) else 1.0,
        extra=int(free.sum()),
        score_difference=largest(expected.scores, answer.scores),
        box_difference=largest(expected.boxes_xyxy, answer.boxes_xyxy),
        mask_difference=largest(expected.masks, answer.masks) if masks else 0.0,  # type: ignore[arg-type]
    )


def check(path: Path, network: DeployedDetector, card: ModelCard) -> Iterator[str]:
    """Compare the file at `path` with `network` at two sizes, alone and in a batch of three; yield lines of figures.

    Raises:
        InvalidModelError: the file doesn't answer what the network answers.
    """
    pixels = load_image(PHOTOGRAPH)
    with InProcessDetector(OnnxRuntime.load(path)) as detector:
        for divisor in (1, 2):
            long, short = card.test_scale
            scaled = card.model_copy(update={"test_scale": (long // divisor, short // divisor)})
            # A photograph, its mirror image, and one with nothing to see.
            images = [prepare(p, scaled) for p in (pixels, pixels[:, ::-1], np.zeros_like(pixels))]
            height, width = images[0].pixels.shape[:2]
            reference = _run(network, images, card)
            batch = _infer(detector, images)
            singles = [_infer(detector, [image])[0] for image in images]
            for kind, answers in (("alone", singles), ("in a batch of 3", batch)):
                yield _against_pytorch(f"{width}×{height} {kind}", reference, answers)
            yield _batch_against_singles(f"{width}×{height}", batch, singles)


def _infer(detector: InProcessDetector, images: Sequence[PreparedImage]) -> list[Detections]:
    return detector.infer(images, [0.0] * len(images), [True] * len(images))


def _run(network: DeployedDetector, images: Sequence[PreparedImage], card: ModelCard) -> list[Detections]:
    """Run the PyTorch network."""
    inputs = [torch.from_numpy(array) for array in stack(images).values()]
    with torch.inference_mode():
        outputs = network(*inputs, torch.zeros(len(images), 1))
    named = dict(zip(tensors.output_names(card.has_masks), (t.numpy() for t in outputs), strict=True))
    return [unpack(named, row, image.original_size_hw, True) for row, image in enumerate(images)]


def _against_pytorch(what: str, expected: Sequence[Detections], answers: Sequence[Detections]) -> str:
    figures = [agreement(a, b) for a, b in zip(expected, answers, strict=True)]
    worst = Agreement(
        count=sum(f.count for f in figures),
        found=min(f.found for f in figures),
        extra=max(f.extra for f in figures),
        score_difference=max(f.score_difference for f in figures),
        box_difference=max(f.box_difference for f in figures),
        mask_difference=max(f.mask_difference for f in figures),
    )
    if worst.found < FOUND or worst.extra > EXTRA:
        raise InvalidModelError(f"The exported file differs from PyTorch at {what}: {worst}.")
    return f"{what}, against PyTorch: {worst}"


def _batch_against_singles(what: str, batch: Sequence[Detections], singles: Sequence[Detections]) -> str:
    scores = boxes = 0.0
    for together, alone in zip(batch, singles, strict=True):
        if not np.array_equal(together.labels, alone.labels):
            raise InvalidModelError(f"At {what} an image in a batch has other detections than alone.")
        scores = max(scores, float(np.abs(together.scores - alone.scores).max(initial=0)))
        boxes = max(boxes, float(np.abs(together.boxes_xyxy - alone.boxes_xyxy).max(initial=0)))
    if scores > BATCH_SCORE or boxes > BATCH_PIXELS:
        raise InvalidModelError(f"At {what} a batch moves scores by {scores:.1e} and boxes by {boxes:.1e} px.")
    return f"{what}, a batch against singles: scores within {scores:.1e}, boxes within {boxes:.1e} px"
