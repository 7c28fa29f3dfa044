"""Names and types of a network's inputs and outputs, the same in every runtime.

B images, K = the card's maximum of detections, S = the card's mask size. Sizes are (height, width).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Tensors: TypeAlias = Mapping[str, NDArray[Any]]

IMAGES = "images"  # uint8 [B,H,W,3], RGB, resized; H and W multiples of 32; what lies outside image_sizes is ignored
IMAGE_SIZES = "image_sizes"  # int64 [B,2], of the resized image inside the padding
ORIGINAL_SIZES = "original_sizes"  # int64 [B,2], of the image the boxes refer to
SCORE_THRESHOLDS = "score_thresholds"  # float32 [B,1]; the model's own threshold is the lower bound
WANT_MASKS = "want_masks"  # bool [B,1], mask models only

NUM_DETECTIONS = "num_detections"  # int64 [B,1], n ≤ K
BOXES = "boxes"  # float32 [B,K,4], x1 y1 x2 y2 in original pixels, best score first; 0 from row n on
SCORES = "scores"  # float32 [B,K]
LABELS = "labels"  # int64 [B,K], −1 from row n on
MASKS = "masks"  # float16 [B,K,S,S], mask models only

INPUT_TYPES: dict[str, type[np.generic]] = {
    IMAGES: np.uint8,
    IMAGE_SIZES: np.int64,
    ORIGINAL_SIZES: np.int64,
    SCORE_THRESHOLDS: np.float32,
    WANT_MASKS: np.bool_,
}

OUTPUT_TYPES: dict[str, type[np.generic]] = {
    NUM_DETECTIONS: np.int64,
    BOXES: np.float32,
    SCORES: np.float32,
    LABELS: np.int64,
    MASKS: np.float16,
}


def input_names(has_masks: bool) -> tuple[str, ...]:
    """Return the names of a network's inputs, in order."""
    names = (IMAGES, IMAGE_SIZES, ORIGINAL_SIZES, SCORE_THRESHOLDS)
    return (*names, WANT_MASKS) if has_masks else names


def output_names(has_masks: bool) -> tuple[str, ...]:
    """Return the names of a network's outputs, in order."""
    names = (NUM_DETECTIONS, BOXES, SCORES, LABELS)
    return (*names, MASKS) if has_masks else names


def output_shapes(max_detections: int, mask_size: int | None) -> dict[str, tuple[int, ...]]:
    """Return the shape of each of a network's outputs for one image, that is, without B."""
    shapes: dict[str, tuple[int, ...]] = {
        NUM_DETECTIONS: (1,),
        BOXES: (max_detections, 4),
        SCORES: (max_detections,),
        LABELS: (max_detections,),
    }
    return shapes if mask_size is None else shapes | {MASKS: (max_detections, mask_size, mask_size)}
