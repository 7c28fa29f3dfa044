"""Detects in windows of a large image, and merges what the windows have found.

Windows overlap, so an object near a window's edge is seen by two or more, by some in part. Two windows can only
disagree about what both see: their detections are of one object if the boxes, clipped to the windows' intersection,
overlap by half (IoU). The best one that no window's edge cuts stands for all; where each is cut, their union does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from resnest_core.card import ModelCard
from resnest_core.detections import Detections
from resnest_core.errors import ParameterError
from resnest_core.masks import sampled

MIN_SIZE = 64  # pixels
MAX_OVERLAP = 0.9
SAME_OBJECT = 0.5  # IoU within the windows' intersection
INSIDE = 0.7  # of a part's area
EDGE = 2.0  # pixels from a window's edge within which a box is cut by it


class Window(NamedTuple):
    """A part of an image, in pixels; `right` and `bottom` are excluded."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Tiles:
    """How a large image is divided: windows of `size`×`size` pixels that overlap by a share of it.

    The overlap should hold the largest object that matters: one that no window sees whole is put together from parts.

    Raises:
        ParameterError: the size is less than 64 pixels, or the overlap isn't from 0 to 0.9.
    """

    size: int = 1024
    overlap: float = 0.2

    def __post_init__(self) -> None:
        if self.size < MIN_SIZE:
            raise ParameterError(f"Tiles must have at least {MIN_SIZE} pixels on a side, not {self.size}.")
        if not 0 <= self.overlap <= MAX_OVERLAP:
            raise ParameterError(f"The overlap of tiles must be from 0 to {MAX_OVERLAP}, not {self.overlap}.")

    def windows(self, size_hw: tuple[int, int]) -> list[Window]:
        """Return the windows of an image, row by row: evenly spaced, at least `overlap` of a window shared.

        A side shorter than a window has one window of its own length.
        """
        rows, columns = (self._spans(side) for side in size_hw)
        return [Window(left, top, right, bottom) for top, bottom in rows for left, right in columns]

    def _spans(self, side: int) -> list[tuple[int, int]]:
        if side <= self.size:
            return [(0, side)]
        count = int(np.ceil((side - self.size) / (self.size * (1 - self.overlap)))) + 1
        starts = np.linspace(0, side - self.size, count).round().astype(int).tolist()
        return [(start, start + self.size) for start in starts]


def merged(parts: Iterable[tuple[Window, Detections]], size_hw: tuple[int, int], card: ModelCard) -> Detections:
    """Return the detections of the whole image, best score first, from those of its windows.

    There may be more than the card's `max_detections`, which holds for a window. Without overlap nothing is merged.
    """
    windows, found = _in_image(parts, size_hw, card)
    is_cut = _cut(found.boxes_xyxy, windows, size_hw)
    rows: list[tuple[int, list[int]]] = []  # which detection stands for a group, and those that it is the union of
    for group in _groups(found, windows):
        whole = [member for member in group if not is_cut[member]]
        best = max(whole or group, key=lambda member: float(found.scores[member]))
        rows.append((best, [] if whole else group))
    boxes, masks = found.boxes_xyxy.copy(), None if found.masks is None else found.masks.copy()
    for best, members in rows:
        if len(members) > 1:
            corners = found.boxes_xyxy[members]
            boxes[best] = [*corners[:, :2].min(axis=0), *corners[:, 2:].max(axis=0)]
            if masks is not None:
                maps = [sampled(found.masks[member], found.boxes_xyxy[member], boxes[best]) for member in members]  # type: ignore[index]
                masks[best] = np.max(maps, axis=0)
    best_of_each = np.array([best for best, _ in rows], np.int64)
    in_parts = np.array([bool(members) for _, members in rows], bool)
    kept = best_of_each[~_inside_others(boxes[best_of_each], found.labels[best_of_each], in_parts)]
    kept = kept[np.argsort(-found.scores[kept], kind="stable")]
    whole_image = Detections(boxes, found.scores, found.labels, masks, size_hw, card)[kept]
    return whole_image[_suppressed(whole_image)]


def _suppressed(found: Detections) -> list[int]:
    """Return what class-wise NMS keeps of detections, best score first: views of one object that didn't agree."""
    ious = _ious(found.boxes_xyxy, found.boxes_xyxy) * (found.labels[:, None] == found.labels[None])
    kept: list[int] = []
    for index in range(len(found)):
        if not (ious[index, kept] > SAME_OBJECT).any():
            kept.append(index)
    return kept


def _in_image(
    parts: Iterable[tuple[Window, Detections]], size_hw: tuple[int, int], card: ModelCard
) -> tuple[NDArray[np.float32], Detections]:
    """Return the window (N, 4) of each detection, and all of them in the image's coordinates."""
    windows, boxes, scores, labels, masks = [], [], [], [], []
    for window, part in parts:
        windows.append(np.tile(np.array(window, np.float32), (len(part), 1)))
        boxes.append(part.boxes_xyxy + np.array([window.left, window.top] * 2, np.float32))
        scores.append(part.scores)
        labels.append(part.labels)
        if part.masks is not None:
            masks.append(part.masks)
    every = Detections(
        np.concatenate(boxes), np.concatenate(scores), np.concatenate(labels), np.concatenate(masks) if masks else None,
        size_hw, card,
    )  # fmt: skip
    return np.concatenate(windows), every


def _cut(boxes: NDArray[np.float32], windows: NDArray[np.float32], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which boxes (N, 4) end at an edge of their windows (N, 4) that isn't the image's."""
    height, width = size_hw
    is_inner = windows != np.array([0, 0, width, height], np.float32)
    is_cut: NDArray[np.bool_] = np.any(is_inner & (np.abs(boxes - windows) <= EDGE), axis=1)
    return is_cut


def _groups(found: Detections, windows: NDArray[np.float32]) -> list[list[int]]:
    """Return the detections of each object: at most one of a window, those that agree best first."""
    ids = np.unique(windows, axis=0, return_inverse=True)[1].ravel()
    by_window = [np.flatnonzero(ids == window) for window in range(ids.max(initial=-1) + 1)]
    pairs: list[tuple[float, int, int]] = []
    for (first, one), (second, other) in combinations(enumerate(by_window), 2):
        shared = _intersection(windows[one[0]], windows[other[0]])
        if shared is None or first == second:
            continue
        ious = _ious(np.clip(found.boxes_xyxy[one], *shared), np.clip(found.boxes_xyxy[other], *shared))
        ious *= found.labels[one][:, None] == found.labels[other][None]
        pairs += [(float(ious[a, b]), int(one[a]), int(other[b])) for a, b in np.argwhere(ious >= SAME_OBJECT)]
    group_of = {index: [index] for index in range(len(found))}
    for _, a, b in sorted(pairs, key=lambda pair: -pair[0]):
        one_group, other_group = group_of[a], group_of[b]
        if one_group is not other_group and not {ids[i] for i in one_group} & {ids[i] for i in other_group}:
            one_group += other_group
            group_of.update(dict.fromkeys(other_group, one_group))
    return list({id(group): group for group in group_of.values()}.values())


def _intersection(one: NDArray[np.float32], other: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...] | None:
    """Return the corners (x1 y1 x1 y1) and (x2 y2 x2 y2) of what two windows share; None: nothing."""
    low, high = np.maximum(one, other)[:2], np.minimum(one, other)[2:]
    return (np.tile(low, 2), np.tile(high, 2)) if (low < high).all() else None


def _overlaps(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the area that each of (N, 4) boxes shares with each of (M, 4)."""
    sides = np.minimum(one[:, None, 2:], other[None, :, 2:]) - np.maximum(one[:, None, :2], other[None, :, :2])
    shared: NDArray[np.float32] = np.maximum(sides, 0).prod(axis=2)
    return shared


def _areas(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    areas: NDArray[np.float32] = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return areas


def _ious(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    shared = _overlaps(one, other)
    union = np.maximum(_areas(one)[:, None] + _areas(other)[None] - shared, 1e-6)
    ious: NDArray[np.float32] = (shared / union).astype(np.float32)
    return ious


def _inside_others(
    boxes: NDArray[np.float32], labels: NDArray[np.int64], in_parts: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return which of the objects that no window saw whole lie in a larger one of their class, and are a part of it."""
    areas = _areas(boxes)
    covers = _overlaps(boxes, boxes) >= INSIDE * areas[:, None]
    covers &= (labels[:, None] == labels[None]) & (areas[:, None] < areas[None])
    return in_parts & covers.any(axis=1)
