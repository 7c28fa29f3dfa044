"""Draws detections into an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np
import PIL.Image
from PIL import ImageDraw

from resnest_core import fonts
from resnest_core.card import ModelCard
from resnest_core.colors import DRAWING_THRESHOLD, Color, ColorBy, ink_on, object_colors, track_color
from resnest_core.errors import ParameterError
from resnest_core.images import Pixels
from resnest_core.masks import Box, Mask, paste

if TYPE_CHECKING:
    from resnest_core.detections import Detections

MASK_OPACITY = 0.45
ENCODINGS = {"image/png": ".png", "image/jpeg": ".jpg"}

Corners: TypeAlias = tuple[float, float, float, float]
"""Left, top, right, bottom."""


def draw(
    pixels: Pixels,
    detections: Detections,
    card: ModelCard,
    *,
    score_threshold: float = DRAWING_THRESHOLD,
    color_by: ColorBy = "instance",
) -> Pixels:
    """Return a copy of the image (H, W, 3) with boxes, masks, classes and scores above the threshold drawn in.

    Overlapping objects have different colours, or with `color_by="class"` all of a class the same. Objects that are
    tracked keep a colour of their own through a video.
    """
    shown = detections[detections.scores > score_threshold]
    labels = shown.labels.tolist()
    tracks = [-1] * len(shown) if shown.track_ids is None else shown.track_ids.tolist()
    colors = [
        color if track < 0 else track_color(track)
        for color, track in zip(object_colors(shown.boxes_xyxy, labels, color_by), tracks, strict=True)
    ]
    # Pillow includes the end pixel of a line, a box excludes it.
    boxes = [(x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)) for x1, y1, x2, y2 in shown.boxes_xyxy.tolist()]
    short_side = min(detections.image_size_hw)
    line = max(1, round(short_side / 250))

    canvas = pixels.copy()
    backwards = range(len(shown) - 1, -1, -1)  # the best are drawn last, over the others
    if shown.masks is not None:
        for index in backwards:
            mask, box_xyxy = shown.masks[index], shown.boxes_xyxy[index]
            _shade(canvas, mask, box_xyxy, card.mask_threshold, colors[index], line)
    picture = PIL.Image.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    for index in backwards:
        pen.rectangle(boxes[index], outline=colors[index], width=line)
    size = max(10, round(short_side / 32))
    named = [fonts.label_and_font(card.classes[label], label, size) for label in labels]
    texts = [
        (f"{text} {score:.2f}" if track < 0 else f"{text} #{track} {score:.2f}", font)
        for (text, font), score, track in zip(named, shown.scores.tolist(), tracks, strict=True)
    ]
    _labels(pen, texts, boxes, colors, line)
    return np.array(picture)


def encode(pixels: Pixels, media_type: str) -> bytes:
    """Return RGB pixels (H, W, 3) as `image/png` or `image/jpeg`.

    Raises:
        ParameterError: the media type isn't supported.
    """
    if media_type not in ENCODINGS:
        raise ParameterError(f"Images are encoded as {' or '.join(ENCODINGS)}, not as {media_type}.")
    return cv2.imencode(ENCODINGS[media_type], cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()


def media_type_of(path: Path) -> str:
    """Return the media type that a drawing's file name stands for.

    Raises:
        ParameterError: its ending is none of PNG or JPEG.
    """
    suffix = {".jpeg": ".jpg"}.get(path.suffix.lower(), path.suffix.lower())
    for media_type, ending in ENCODINGS.items():
        if suffix == ending:
            return media_type
    raise ParameterError(f"Drawings are {' or '.join(ENCODINGS.values())}: {path.name} has another ending.")


def scaled(pixels: Pixels, scale: float) -> Pixels:
    """Return an image (H, W, 3) made smaller by a factor in 0…1."""
    if scale == 1:
        return pixels
    size = max(round(pixels.shape[1] * scale), 1), max(round(pixels.shape[0] * scale), 1)
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _shade(canvas: Pixels, mask: Mask, box_xyxy: Box, threshold: float, color: Color, line: int) -> None:
    """Tint a mask's pixels, and draw its outline."""
    crop, (x, y) = paste(mask, box_xyxy, (canvas.shape[0], canvas.shape[1]), threshold=threshold)
    region = canvas[y : y + crop.shape[0], x : x + crop.shape[1]]
    if not crop.any():
        return
    tinted = cv2.addWeighted(region, 1 - MASK_OPACITY, np.full_like(region, color), MASK_OPACITY, 0)
    bits = crop.astype(np.uint8)
    outlines, _ = cv2.findContours(bits, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    cv2.copyTo(tinted, bits, region)
    cv2.drawContours(region, outlines, -1, color, max(1, line // 2), cv2.LINE_AA)


def _labels(
    pen: ImageDraw.ImageDraw,
    texts: Sequence[tuple[str, fonts.Font]],
    boxes: Sequence[Corners],
    colors: Sequence[Color],
    line: int,
) -> None:
    """Draw text labels on the objects' colours, the best first: where they hide no earlier one, if there is room."""
    margin = line + 1
    taken: list[Corners] = []
    tops = []
    for (text, font), box in zip(texts, boxes, strict=True):
        _, top, _, bottom = pen.textbbox((0, 0), f"Ag{text}", font=font)  # one height for every text in Latin letters
        size = math.ceil(pen.textlength(text, font=font)) + 2 * margin, math.ceil(bottom - top) + 2 * margin
        places = _places(box, size, pen.im.size)
        taken.append(min(places, key=lambda place: sum(_shared(place, other) for other in taken)))
        tops.append(top)
    for (text, font), color, place, top in reversed([*zip(texts, colors, taken, tops, strict=True)]):
        pen.rectangle(place, fill=color)
        pen.text((place[0] + margin, place[1] + margin - top), text, fill=ink_on(color), font=font)


def _places(box: Corners, size: tuple[int, int], image_size: tuple[int, int]) -> list[Corners]:
    """Return where a label of this (width, height) may be, the best place first: above its box, inside, below."""
    width, height = size
    x1, y1, x2, y2 = map(round, box)  # fractional positions would blur the text
    lefts, tops = (x1, x2 - width), (y1 - height, y1, y2, y2 - height)
    right, bottom = max(image_size[0] - width, 0), max(image_size[1] - height, 0)
    places = [(max(0, min(x, right)), y) for y in tops if 0 <= y <= bottom for x in lefts]
    if not places:  # the box leaves none: at the image's edge
        places = [(max(0, min(x1, right)), max(0, min(y1, bottom)))]
    return [(x, y, x + width, y + height) for x, y in places]


def _shared(one: Corners, other: Corners) -> float:
    """Return the area that two rectangles share."""
    sides = (min(one[axis + 2], other[axis + 2]) - max(one[axis], other[axis]) for axis in (0, 1))
    return math.prod(max(side, 0) for side in sides)
