"""Draws detections into an image."""

from __future__ import annotations

import colorsys
import math
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np
import PIL.Image
from PIL import ImageDraw

from resnest_core import fonts
from resnest_core.card import ModelCard
from resnest_core.errors import ParameterError
from resnest_core.images import Pixels
from resnest_core.masks import Box, Mask, paste

if TYPE_CHECKING:
    from resnest_core.detections import Detections

DRAWING_THRESHOLD = 0.3
MASK_OPACITY = 0.45
GOLDEN_RATIO = 0.618034  # multiples of it are well separated around the colour circle
DARK = 118  # luma below which white text is more legible than black
ENCODINGS = {"image/png": ".png", "image/jpeg": ".jpg"}

Color: TypeAlias = tuple[int, int, int]


def draw(
    pixels: Pixels, detections: Detections, card: ModelCard, *, score_threshold: float = DRAWING_THRESHOLD
) -> Pixels:
    """Return a copy of the image (H, W, 3) with boxes, masks, classes and scores above the threshold drawn in."""
    # The best detections are drawn last, over the others.
    shown = detections[detections.scores > score_threshold][::-1]
    colors = [class_color(label) for label in shown.labels.tolist()]
    # Pillow includes the end pixel of a line, a box excludes it.
    boxes = [(x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)) for x1, y1, x2, y2 in shown.boxes_xyxy.tolist()]
    short_side = min(detections.image_size_hw)
    line = max(1, round(short_side / 250))

    canvas = pixels.copy()
    if shown.masks is not None:
        for mask, box_xyxy, color in zip(shown.masks, shown.boxes_xyxy, colors, strict=True):
            _shade(canvas, mask, box_xyxy, card.mask_threshold, color, line)
    picture = PIL.Image.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    for box, color in zip(boxes, colors, strict=True):
        pen.rectangle(box, outline=color, width=line)
    size = max(10, round(short_side / 32))
    for box, color, label, score in zip(boxes, colors, shown.labels.tolist(), shown.scores.tolist(), strict=True):
        text, font = fonts.label_and_font(card.classes[label], label, size)
        _label(pen, f"{text} {score:.2f}", box[:2], color, font, line)
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


def class_color(label: int) -> Color:
    """Return a class's colour, RGB 0…255: deterministic, bright, and distinct from those of neighbouring labels."""
    red, green, blue = colorsys.hsv_to_rgb(label * GOLDEN_RATIO % 1, 0.75, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


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


def _label(
    pen: ImageDraw.ImageDraw,
    text: str,
    corner_xy: tuple[float, float],
    color: Color,
    font: fonts.Font,
    line: int,
) -> None:
    """Draw a text label on the class's colour, above the box if there is room, otherwise inside it."""
    image_width, image_height = pen.im.size
    margin = line + 1
    _, top, _, bottom = pen.textbbox((0, 0), f"Ag{text}", font=font)  # the same height for every text in Latin letters
    width, height = math.ceil(pen.textlength(text, font=font)) + 2 * margin, math.ceil(bottom - top) + 2 * margin
    x, y = map(round, corner_xy)  # fractional positions would blur the text and misalign it with its background
    y = y - height if y >= height else y
    x, y = max(0, min(x, image_width - width)), max(0, min(y, image_height - height))
    red, green, blue = color
    ink = "white" if 0.299 * red + 0.587 * green + 0.114 * blue < DARK else "black"
    pen.rectangle((x, y, x + width, y + height), fill=color)
    pen.text((x + margin, y + margin - top), text, fill=ink, font=font)
