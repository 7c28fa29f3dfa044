"""A mask's outline as a single ring, for the formats of Roboflow and Ultralytics."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from resnest_core.masks import POLYGON_TOLERANCE, THRESHOLD, Box, Mask, paste


def outline(
    mask: Mask,
    box_xyxy: Box,
    image_size_hw: tuple[int, int],
    tolerance: float = POLYGON_TOLERANCE,
    *,
    threshold: float = THRESHOLD,
) -> NDArray[np.int32]:
    """Return the outline of the mask's largest part as points x, y, int32 (N, 2); no points where the mask is empty.

    The points are pixels on the part's rim, as `cv2.findContours` gives and `cv2.fillPoly` takes them: both tools draw
    masks with it. `tolerance` is how far, in pixels, the ring may leave the rim; 0 keeps every corner. Holes and other
    parts are lost: `polygons` of `resnest_core.masks` keeps them. A part of one pixel is one point, a line two or more.
    """
    crop, corner = paste(mask, box_xyxy, image_size_hw, threshold=threshold)
    if not crop.any():
        return np.zeros((0, 2), np.int32)
    _, parts, stats, _ = cv2.connectedComponentsWithStats(crop.astype(np.uint8), connectivity=8)
    largest = 1 + stats[1:, cv2.CC_STAT_AREA].argmax()
    rings, _ = cv2.findContours((parts == largest).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    ring: NDArray[np.int32] = cv2.approxPolyDP(rings[0], tolerance, True)[:, 0].astype(np.int32)
    return ring + np.array(corner, np.int32)
