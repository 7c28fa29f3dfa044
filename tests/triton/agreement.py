"""Criteria for equal detections of two detectors."""

from __future__ import annotations

import numpy as np

from resnest_core import InProcessDetector
from resnest_core.buckets import Buckets
from resnest_core.detections import Detections
from resnest_core.images import decode_image
from resnest_core.preprocess import prepare

SCORE = 1e-4
PIXELS = 0.01
MASK = 2e-3  # two steps of float16 near 1
FOUND = 0.99


def detect(
    detector: InProcessDetector,
    data: bytes,
    *,
    score_threshold: float = 0.05,
    masks: bool = True,
    buckets: Buckets = Buckets.EXACT,
) -> Detections:
    """Detect in this process, on an image padded as Triton pads it."""
    return detector.infer([prepare(decode_image(data), detector.card, buckets)], [score_threshold], [masks])[0]


def assert_same(ours: Detections, expected: Detections) -> None:
    """Each detection has its own counterpart: of its label, its box, its score and its mask."""
    assert ours.image_size_hw == expected.image_size_hw
    assert (ours.masks is None) == (expected.masks is None)
    free = np.ones(len(ours), bool)
    found = 0
    for index in range(len(expected)):
        fits = free & (ours.labels == expected.labels[index])
        fits &= np.abs(ours.scores - expected.scores[index]) <= SCORE
        fits &= np.abs(ours.boxes_xyxy - expected.boxes_xyxy[index]).max(axis=1) <= PIXELS
        if expected.masks is not None and ours.masks is not None:
            difference = np.abs(ours.masks.astype(np.float32) - expected.masks[index].astype(np.float32))
            fits &= difference.max(axis=(1, 2)) <= MASK
        if fits.any():
            free[fits.argmax()] = False
            found += 1
    assert found >= FOUND * max(len(ours), len(expected)), f"{found} of {len(expected)} found, {len(ours)} answered"
