"""Masks of COCO's annotations, as run lengths."""

from __future__ import annotations

from typing import Any

from pycocotools import mask as masks

POINTS_NUMBERS = 6  # of the smallest polygon; pycocotools takes four numbers for a box


def run_lengths(segmentation: Any, size_hw: tuple[int, int]) -> dict[str, Any] | None:
    """Return an object's run lengths; None if it has no segmentation, or only polygons of fewer than three points.

    Raises:
        ValueError: the segmentation is neither polygons nor run lengths of the image's size.
    """
    height, width = size_hw
    if not segmentation:
        return None
    try:
        if isinstance(segmentation, list):
            parts = [part for part in segmentation if len(part) >= POINTS_NUMBERS]
            if not parts and _are_numbers(segmentation):
                return None
            found = masks.merge(masks.frPyObjects(parts, height, width))
        elif isinstance(segmentation["counts"], list):
            found = masks.frPyObjects(segmentation, *segmentation["size"])
        else:
            found = {"size": segmentation["size"], "counts": segmentation["counts"]}
        masks.area(found)
    except Exception as error:  # pycocotools raises many classes on damaged annotations
        raise ValueError("neither polygons nor run lengths") from error
    if [*found["size"]] != [height, width]:
        raise ValueError("run lengths of another size")
    return dict(found)


def area(lengths: dict[str, Any]) -> float:
    """Return the number of pixels of a mask."""
    return float(masks.area(lengths))


def _are_numbers(parts: list[Any]) -> bool:
    return all(isinstance(number, int | float) for part in parts for number in part)
