"""A mosaic of photographs in tiles: their own detections come back, each once, also across the edges of tiles."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from resnest_core import Detections, Detector, Tiles, load_detector
from resnest_core.images import load_image
from tests.core.examples import DATA

CELL_HW = (500, 750)
TILES = Tiles(500, 0.5)  # resized as a cell is, so that objects have the same size for the network
PHOTOGRAPHS = sorted((DATA / "demo/images").glob("*.jpg"))[:4]


@pytest.fixture(scope="module")
def detector() -> Iterator[Detector]:
    with load_detector("demo", runtime="openvino") as detector:
        yield detector


def ious(box: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    sides = np.maximum(np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]), 0)
    shared: NDArray[np.float32] = sides.prod(axis=1)
    union = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(axis=1) - shared
    overlaps: NDArray[np.float32] = shared / union
    return overlaps


def test_the_photographs_own_detections_come_back_once(detector: Detector) -> None:
    height, width = CELL_HW
    cells = [cv2.resize(load_image(path), (width, height)).astype(np.uint8) for path in PHOTOGRAPHS]
    mosaic = np.vstack([np.hstack(cells[:2]), np.hstack(cells[2:])])
    found = detector.detect(mosaic, tiles=TILES, score_threshold=0.3)
    assert found.image_size_hw == (2 * height, 2 * width)
    asked = again = doubled = 0
    for index, cell in enumerate(cells):
        own: Detections = detector.detect(cell, score_threshold=0.6)
        corner = np.array([index % 2 * width, index // 2 * height] * 2, np.float32)
        for box, label in zip(own.boxes_xyxy, own.labels, strict=True):
            if box.min() < 15 or box[2] > width - 15 or box[3] > height - 15:
                continue  # the seam of photographs changes what is seen
            same = (found.labels == label) & (ious(box + corner, found.boxes_xyxy) >= 0.5)
            crowd = (own.labels == label) & (ious(box, own.boxes_xyxy) >= 0.5)
            asked, again, doubled = asked + 1, again + same.any(), doubled + (same.sum() > crowd.sum())
    assert asked >= 15
    assert again >= 0.9 * asked
    assert doubled <= 0.05 * asked
