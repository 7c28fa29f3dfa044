"""Compares the detections of a network on a GPU with those of a reference, also in turns that show stale answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from resnest_core.card import ModelCard
from resnest_core.detections import Detections
from resnest_core.detector import InProcessDetector
from resnest_core.images import Pixels, load_image
from resnest_core.preprocess import PreparedImage, prepare
from resnest_export.check import Agreement, agreement, worst
from tools.gpu_check.outcome import failed, passed

PHOTOGRAPHS = Path(__file__).parents[2] / "tests" / "data" / "demo" / "images"
DIFFERENT = 0.5
"""Two images whose detections agree more than this can't show which of them an answer is of."""


@dataclass(frozen=True)
class Bounds:
    """How far a detection's score and box may be off and still be found again, and what share must be."""

    score: float
    pixels: float
    found: float


BOUNDS = {"fp32": Bounds(2e-3, 1.0, 0.99), "fp16": Bounds(0.1, 8.0, 0.9)}
"""Of fp16: a decision of an NMS that rounding turns keeps a neighbouring box. On a CPU 84 of 86 were found again so."""
SAME_NETWORK = Bounds(1e-4, 0.01, 1.0)
"""Of one network that runs in two ways; also what a batch may change."""
ROUGHLY = Bounds(0.1, 8.0, 0.9)
"""Where images may be padded differently, and only another image's answer is looked for."""


def compare(
    name: str, expected: Sequence[Detections], found: Sequence[Detections], card: ModelCard, bounds: Bounds
) -> None:
    """Say whether the detections of images are those expected."""
    figures = [_agreement(*pair, card, bounds) for pair in zip(expected, found, strict=True)]
    say = passed if share_found(figures) >= bounds.found else failed
    say(name, f"{share_found(figures):.1%} found again; of an image at worst: {worst(figures)}")


def share_found(figures: Sequence[Agreement]) -> float:
    """Return the share of all images' detections that were found again; 0 where nothing was to be found."""
    count = sum(each.count for each in figures)
    return sum(each.found * each.count for each in figures) / count if count else 0.0


def two_images(photograph: Path | None = None) -> tuple[Pixels, Pixels]:
    """Return a photograph and its mirror image, which have the same shape and other detections."""
    pixels = load_image(photograph or PHOTOGRAPHS / "000000000544.jpg")  # many detections
    return pixels, pixels[:, ::-1]


def compare_in_turns(
    name: str,
    detect: Callable[[Pixels], Detections],
    reference: Callable[[Pixels], Detections],
    images: tuple[Pixels, Pixels],
    card: ModelCard,
    bounds: Bounds,
) -> None:
    """Send A A A B B B A, and say whether each answer is of the image that was sent, by a reference.

    A CUDA graph that reads or returns another run's memory answers the first B with A's detections.
    """
    expected = [reference(image) for image in images]
    if _agreement(expected[0], expected[1], card, bounds).found > DIFFERENT:
        return failed(name, "both images have the same detections, so that nothing can be seen: use other images")
    turns = [0, 0, 0, 1, 1, 1, 0]
    own, other = [], []
    for turn in turns:
        found = detect(images[turn])
        own.append(_agreement(expected[turn], found, card, bounds))
        other.append(_agreement(expected[1 - turn], found, card, bounds))
    of_other = [place for place, pair in enumerate(zip(own, other, strict=True), 1) if pair[0].found <= pair[1].found]
    figures = f"{share_found(own):.1%} found again; of an answer at worst: {worst(own)}"
    if of_other:
        return failed(name, f"of A A A B B B A, answers {of_other} aren't of their own image: {figures}")
    say = passed if share_found(own) >= bounds.found else failed
    return say(name, f"A A A B B B A: {figures}")


def prepared(images: Sequence[Pixels], card: ModelCard) -> list[PreparedImage]:
    """Return images in the model's size."""
    return [prepare(image, card) for image in images]


def answers(detector: InProcessDetector, batch: Sequence[PreparedImage]) -> list[Detections]:
    """Return what a detector finds in the images of a batch."""
    return detector.infer(batch, [detector.card.score_threshold] * len(batch), [True] * len(batch))


def answer(detector: InProcessDetector) -> Callable[[Pixels], Detections]:
    """Return what answers an image by itself."""
    return lambda pixels: answers(detector, prepared([pixels], detector.card))[0]


def _agreement(expected: Detections, found: Detections, card: ModelCard, bounds: Bounds) -> Agreement:
    return agreement(expected, found, card, score=bounds.score, pixels=bounds.pixels)
