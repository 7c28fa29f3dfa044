"""Compares an exported file's detections with those of the PyTorch detector on a photograph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resnest_core import tensors
from resnest_core.card import ModelCard
from resnest_core.detections import Detections
from resnest_core.detector import InProcessDetector, unpack
from resnest_core.errors import InvalidModelError
from resnest_core.images import load_image
from resnest_core.preprocess import PreparedImage, prepare, stack
from resnest_core.runtimes import OnnxRuntime, Runtime
from resnest_export.deployed_detector import DeployedDetector

PHOTOGRAPH = Path(__file__).with_name("data") / "photograph.jpg"
FOUND = 0.99  # minimum share of PyTorch's detections
EXTRA = 2  # maximum number of detections that PyTorch doesn't have
MASK = 0.01  # tolerance of mask probabilities
THRESHOLDS = (0.0, 0.0, 1.0)
"""Of a photograph, its mirror image and its upside-down image; the last has no detections, as no score exceeds 1."""
BATCH_SCORE, BATCH_PIXELS = 1e-4, 0.01  # tolerances between batched and single images


@dataclass(frozen=True)
class Agreement:
    """Agreement of two lists of detections; differences are the largest among the matched pairs."""

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


def agreement(
    expected: Detections, answer: Detections, card: ModelCard, *, pixels: float = 1.0, score: float = 2e-3
) -> Agreement:
    """Match detections of the same class whose boxes and scores differ by at most `pixels` and `score`.

    A detection whose score is within `score` of the cut-off (the lowest score of a full list, otherwise the threshold)
    is counted neither as missing nor as extra, because rounding decides whether it is included.
    """
    edge = (expected.scores.min() if len(expected) == card.max_detections else card.score_threshold) + score
    counted = expected.scores > edge
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

    def largest(a: NDArray[Any] | None, b: NDArray[Any] | None) -> float:
        if a is None or b is None:
            return 0.0
        return float(np.abs(a[left].astype(np.float32) - b[right].astype(np.float32)).max(initial=0))

    return Agreement(
        count=int(counted.sum()),
        found=float(counted[left].sum() / counted.sum()) if counted.any() else 1.0,
        extra=int((free & (answer.scores > edge)).sum()),
        score_difference=largest(expected.scores, answer.scores),
        box_difference=largest(expected.boxes_xyxy, answer.boxes_xyxy),
        mask_difference=largest(expected.masks, answer.masks),
    )


def worst(figures: Iterable[Agreement]) -> Agreement:
    """Return the largest differences of several comparisons, and their total number of detections."""
    rows = list(figures)
    return Agreement(
        count=sum(row.count for row in rows),
        found=min(row.found for row in rows),
        extra=max(row.extra for row in rows),
        score_difference=max(row.score_difference for row in rows),
        box_difference=max(row.box_difference for row in rows),
        mask_difference=max(row.mask_difference for row in rows),
    )


class Reference:
    """What a network, run by PyTorch, finds on the images of `check`; computed once, for all files compared with it.

    Args:
        network: as it is deployed, in fp32.
        card: of the network.
    """

    def __init__(self, network: DeployedDetector, card: ModelCard) -> None:
        self._network, self._card = network, card
        self._found: dict[int, tuple[list[PreparedImage], list[Detections]]] = {}

    def at(self, divisor: int) -> tuple[list[PreparedImage], list[Detections]]:
        """Return the images in the model's size divided by `divisor`, and the detections on them."""
        if divisor not in self._found:
            long, short = self._card.test_scale
            scaled = self._card.model_copy(update={"test_scale": (long // divisor, short // divisor)})
            pixels = load_image(PHOTOGRAPH)
            images = [prepare(p, scaled) for p in (pixels, pixels[:, ::-1], pixels[::-1])]
            self._found[divisor] = images, run_network(self._network, images, THRESHOLDS, self._card)
        return self._found[divisor]


def check(path: Path, reference: Reference, card: ModelCard, runtime: type[Runtime] = OnnxRuntime) -> Iterator[str]:
    """Compare the file at `path` with PyTorch at two sizes, singly and in a batch of three; yield lines of results.

    Raises:
        InvalidModelError: the file's detections differ from PyTorch's; for a precision below fp32 differences are only
            reported.
    """
    is_exact = card.precision == "fp32"
    with InProcessDetector(runtime.load(path)) as detector:
        for divisor in (1, 2):
            images, expected = reference.at(divisor)
            height, width = images[0].pixels.shape[:2]
            batch = detector.infer(images, THRESHOLDS, [True] * len(images))
            singles = [detector.infer([i], [t], [True])[0] for i, t in zip(images, THRESHOLDS, strict=True)]
            for kind, answers in (("alone", singles), ("in a batch of 3", batch)):
                figures = worst(agreement(a, b, card) for a, b in zip(expected, answers, strict=True))
                differs = figures.found < FOUND or figures.extra > EXTRA or figures.mask_difference > MASK
                if is_exact and differs:
                    raise InvalidModelError(f"The file differs from PyTorch at {width}×{height} {kind}: {figures}.")
                little = "" if figures.count else "; with nothing found this says little"
                yield f"{width}×{height} {kind}, against PyTorch: {figures}{little}"
            figures = worst(
                agreement(a, b, card, pixels=BATCH_PIXELS, score=BATCH_SCORE)
                for a, b in zip(singles, batch, strict=True)
            )
            if is_exact and (figures.found < 1 or figures.extra):
                raise InvalidModelError(f"In a batch of 3 at {width}×{height} images answer otherwise: {figures}.")
            yield f"{width}×{height} in a batch of 3, against alone: {figures}"


def run_network(
    network: DeployedDetector, images: Sequence[PreparedImage], thresholds: Sequence[float], card: ModelCard
) -> list[Detections]:
    """Return the detections of a network, run by PyTorch, in a batch of images."""
    inputs = [torch.from_numpy(array) for array in stack(images).values()]
    with torch.inference_mode():
        outputs = network(*inputs, torch.tensor(thresholds)[:, None])
    named = dict(zip(tensors.output_names(card.has_masks), (t.numpy() for t in outputs), strict=True))
    return [unpack(named, row, image.original_size_hw, True) for row, image in enumerate(images)]
