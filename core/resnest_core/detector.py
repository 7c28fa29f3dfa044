"""`detect(image, …) -> Detections`: the interface that every detector has, and the one that runs in this process."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from resnest_core import tensors
from resnest_core.card import ModelCard
from resnest_core.closeable import Closeable
from resnest_core.detections import Detections
from resnest_core.errors import ParameterError
from resnest_core.images import Image, load_image
from resnest_core.preprocess import PreparedImage, prepare, stack
from resnest_core.runtimes.base import Runtime


class Detector(Protocol):
    """Detects objects: in this process, or through a server."""

    card: ModelCard

    def detect(self, image: Image, *, score_threshold: float | None = None, masks: bool = True) -> Detections:
        """Detect objects in one image.

        Args:
            image: the encoded bytes, a path to them, or RGB pixels as uint8 (H, W, 3).
            score_threshold: 0…1, nothing at or below it is returned; None, or less than it: the model's own.
            masks: whether to return masks, where the model has them.

        Raises:
            ImageError: the image can't be used.
            ParameterError: the threshold isn't in 0…1.
        """
        ...

    def close(self) -> None:
        """Release the detector's resources."""
        ...


def checked_threshold(score_threshold: float | None, card: ModelCard) -> float:
    """Return the threshold that a request gets: its own, or at least the model's.

    Raises:
        ParameterError: it isn't a number in 0…1.
    """
    if score_threshold is None:
        return card.score_threshold
    if not (math.isfinite(score_threshold) and 0 <= score_threshold <= 1):
        raise ParameterError(f"score_threshold must be a number from 0 to 1, not {score_threshold}.")
    return max(score_threshold, card.score_threshold)


class InProcessDetector(Closeable):
    """A detector that runs a network in this process."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.card = runtime.card

    def detect(self, image: Image, *, score_threshold: float | None = None, masks: bool = True) -> Detections:
        """See `Detector.detect`."""
        prepared = prepare(load_image(image), self.card)
        return self.infer([prepared], [checked_threshold(score_threshold, self.card)], [masks])[0]

    def infer(
        self, images: Sequence[PreparedImage], score_thresholds: Sequence[float], want_masks: Sequence[bool]
    ) -> list[Detections]:
        """Run the network on a batch of prepared images, with a threshold and a mask flag per image."""
        inputs = stack(images) | {
            tensors.SCORE_THRESHOLDS: np.array(score_thresholds, np.float32)[:, None],
            tensors.WANT_MASKS: np.array(want_masks, np.bool_)[:, None],
        }
        outputs = self.runtime.run(inputs)
        return [
            unpack(outputs, row, image.original_size_hw, want)
            for row, (image, want) in enumerate(zip(images, want_masks, strict=True))
        ]

    def close(self) -> None:
        """Close the runtime."""
        self.runtime.close()


def unpack(outputs: tensors.Tensors, row: int, original_size_hw: tuple[int, int], masks: bool) -> Detections:
    """Return the detections of one row of a network's outputs."""
    count = int(outputs[tensors.NUM_DETECTIONS][row, 0])
    has_masks = masks and tensors.MASKS in outputs
    return Detections(
        boxes_xyxy=outputs[tensors.BOXES][row, :count],
        scores=outputs[tensors.SCORES][row, :count],
        labels=outputs[tensors.LABELS][row, :count],
        masks=outputs[tensors.MASKS][row, :count] if has_masks else None,
        image_size_hw=original_size_hw,
    )
