"""Interface of a response format, for the gateway and the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from resnest_core.card import ModelCard
from resnest_core.detections import Detections


class MakeAnswer(Protocol):
    """Converts the detections in one image to JSON-serializable data."""

    def __call__(self, detections: Detections, card: ModelCard, *, masks: str = "rle", image_id: int | str = 0) -> Any:
        """Return the response.

        Args:
            detections: the detections in one image.
            card: card of the model that made them.
            masks: one of MASK_FORMS, or `none`; formats with a fixed mask format use it for any value but `none`.
            image_id: of the image, for formats that have one: COCO's is a number, others' annotations may have texts.

        Raises:
            ParameterError: `masks` isn't a known mask format.
        """


@dataclass(frozen=True)
class AnswerFormat:
    """A response format: a row of `FORMATS`."""

    make: MakeAnswer
    add_timings: Callable[[Any, dict[str, float]], None] | None = None
    """Writes how long an answer took into it: milliseconds by stage, and `total`; stages may be missing. None: the
    format has no place for it."""
    is_list: bool = False
    """Whether an answer is a list, and that of several images one list of all their entries, as COCO's results are.
    Otherwise an answer is an object, and several are a list of objects. A line of JSON Lines is an object: the gateway
    wraps a list in one, `resnest detect` writes no such lines of lists. Entries of a list have their image's id."""
