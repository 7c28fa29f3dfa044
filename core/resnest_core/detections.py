"""The result of detecting objects in one image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resnest_core.errors import ParameterError


@dataclass(frozen=True, eq=False)
class Detections:
    """The detections in one image, best score first.

    Attributes:
        boxes_xyxy: float32 (N, 4), x1 y1 x2 y2 in pixels of the original image.
        scores: float32 (N,), 0…1.
        labels: int64 (N,), indices into the model card's `classes`.
        masks: float16 (N, S, S), probability of the predicted class over the box, row by row; None without masks.
        image_size_hw: (height, width) of the original image in pixels.

    Raises:
        ParameterError: the arrays' shapes are inconsistent.
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    masks: NDArray[np.float16] | None
    image_size_hw: tuple[int, int]

    def __post_init__(self) -> None:
        count = len(self.scores)
        shapes_agree = self.boxes_xyxy.shape == (count, 4) and self.labels.shape == self.scores.shape == (count,)
        masks_agree = self.masks is None or (self.masks.ndim == 3 and len(self.masks) == count)
        if not (shapes_agree and masks_agree):
            found = [None if a is None else a.shape for a in (self.boxes_xyxy, self.scores, self.labels, self.masks)]
            raise ParameterError(f"Boxes, scores, labels and masks must agree on N, but have the shapes {found}.")

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, keep: slice | NDArray[np.bool_] | NDArray[np.int64]) -> Detections:
        """Return the detections selected by a slice, a boolean array (N,) or an array of indices."""
        return Detections(
            boxes_xyxy=self.boxes_xyxy[keep],
            scores=self.scores[keep],
            labels=self.labels[keep],
            masks=None if self.masks is None else self.masks[keep],
            image_size_hw=self.image_size_hw,
        )
