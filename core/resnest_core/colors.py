"""Colours that tell the objects of a picture apart; the gateway's page has the same (`page/colors.js`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Color: TypeAlias = tuple[int, int, int]
"""RGB, 0…255."""
ColorBy: TypeAlias = Literal["instance", "class"]

# The seven colours of Okabe and Ito, which people with any kind of colour vision can tell apart
# (https://jfly.uni-koeln.de/color/), in an order in which neighbours differ most.
PALETTE: tuple[Color, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (204, 121, 167),
    (213, 94, 0),
    (0, 114, 178),
)
DRAWING_THRESHOLD = 0.3  # score above which objects are drawn
DARK = 0.179  # relative luminance (WCAG 2.2) below which white text is more legible than black


def object_colors(
    boxes_xyxy: NDArray[np.float32], labels: Sequence[int], color_by: ColorBy = "instance"
) -> list[Color]:
    """Return a colour for each object: its class's, or another where that is an overlapping object's.

    Args:
        boxes_xyxy: (N, 4), best score first: an earlier object keeps its class's colour.
        labels: the N classes.
        color_by: `class` gives all objects of a class its colour.
    """
    of_class = class_colors(labels)
    if color_by == "class":
        return [PALETTE[of_class[label]] for label in labels]
    chosen: list[int] = []
    for index, label in enumerate(labels):
        box, earlier = boxes_xyxy[index], boxes_xyxy[:index]
        overlaps = (np.maximum(earlier[:, :2], box[:2]) < np.minimum(earlier[:, 2:], box[2:])).all(axis=1)
        used = Counter(chosen[other] for other in np.flatnonzero(overlaps).tolist())
        cycle = [(of_class[label] + step) % len(PALETTE) for step in range(len(PALETTE))]
        chosen.append(min(cycle, key=lambda color: used[color]))
    return [PALETTE[color] for color in chosen]


def class_colors(labels: Sequence[int]) -> dict[int, int]:
    """Return an index into PALETTE for each class: classes in one picture have different ones, as far as there are."""
    chosen: dict[int, int] = {}
    for label in sorted(set(labels)):
        used = Counter(chosen.values())
        cycle = [(label + step) % len(PALETTE) for step in range(len(PALETTE))]
        chosen[label] = min(cycle, key=lambda color: used[color])
    return chosen


def track_color(track_id: int) -> Color:
    """Return the colour of an object that is tracked through a video."""
    return PALETTE[track_id % len(PALETTE)]


def ink_on(color: Color) -> str:
    """Return the colour of text, black or white, with the better contrast on a colour."""
    red, green, blue = ((value / 255) ** 2.2 for value in color)
    return "white" if 0.2126 * red + 0.7152 * green + 0.0722 * blue < DARK else "black"
