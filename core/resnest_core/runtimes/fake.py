"""A runtime without a network, for tests of what stands around one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import Self

from resnest_core import tensors
from resnest_core.card import ModelCard
from resnest_core.runtimes.base import Runtime
from resnest_core.tensors import Tensors

FAKE_CARD = ModelCard(
    name="fake",
    family="Mask R-CNN",
    backbone="none",
    classes=("person", "bicycle", "car"),
    category_ids=(1, 2, 3),
    test_scale=(533, 320),
    mask_size=28,
    checkpoint="none",
    checkpoint_sha256="0" * 64,
    project_version="0",
)


class FakeRuntime(Runtime):
    """Answers `count` boxes for any image: each is `fraction` of the image, scores fall from 0.9, masks are discs.

    `calls` records the inputs of every run; `before_run`, if given, is called first and may wait or raise.
    """

    name = "fake"
    device = "cpu"

    def __init__(
        self, card: ModelCard = FAKE_CARD, *, count: int = 3, before_run: Callable[[Tensors], None] | None = None
    ) -> None:
        self.card = card
        self.count = count
        self.before_run = before_run
        self.calls: list[Tensors] = []
        self._lock = threading.Lock()

    @classmethod
    def load(cls, path: Path, **options: Any) -> Self:  # noqa: ARG003 - there is nothing to load
        return cls()

    def run(self, inputs: Tensors) -> Tensors:
        with self._lock:
            self.calls.append(dict(inputs))
        if self.before_run:
            self.before_run(inputs)
        card, original = self.card, inputs[tensors.ORIGINAL_SIZES]
        batch, rows = len(original), card.max_detections
        scores = np.zeros((batch, rows), np.float32)
        scores[:, : self.count] = 0.9 * 0.8 ** np.arange(self.count)
        kept = scores > np.maximum(inputs[tensors.SCORE_THRESHOLDS], card.score_threshold)
        boxes = np.zeros((batch, rows, 4), np.float32)
        low, high = 0.1 + 0.05 * np.arange(rows) / rows, 0.9 - 0.4 * np.arange(rows) / rows
        boxes[..., 0], boxes[..., 2] = original[:, 1:] * low, original[:, 1:] * high
        boxes[..., 1], boxes[..., 3] = original[:, :1] * low, original[:, :1] * high
        labels = np.broadcast_to(np.arange(rows) % len(card.classes), (batch, rows))
        outputs = {
            tensors.NUM_DETECTIONS: kept.sum(axis=1, keepdims=True).astype(np.int64),
            tensors.BOXES: np.where(kept[..., None], boxes, 0).astype(np.float32),
            tensors.SCORES: np.where(kept, scores, 0).astype(np.float32),
            tensors.LABELS: np.where(kept, labels, -1).astype(np.int64),
        }
        if card.mask_size:
            axis = (np.arange(card.mask_size) + 0.5) / card.mask_size - 0.5
            disc = np.clip(1.5 - 2.5 * np.hypot(axis[:, None], axis[None]), 0, 1)
            wanted = kept & inputs[tensors.WANT_MASKS]
            outputs[tensors.MASKS] = (wanted[..., None, None] * disc).astype(np.float16)
        return outputs
