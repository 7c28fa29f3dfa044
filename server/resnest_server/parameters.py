"""A detection request's options: thresholds, classes, and the format of the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import QueryParams

from resnest_core.card import ModelCard
from resnest_core.colors import DRAWING_THRESHOLD
from resnest_core.detections import Detections
from resnest_core.detector import checked_threshold
from resnest_core.drawing import ENCODINGS
from resnest_core.errors import ParameterError
from resnest_core.formats import FORMATS
from resnest_core.masks import MASK_FORMS, mask_form
from resnest_core.messages import shortened
from resnest_server.accept_header import first_preferred

JSON = "application/json"
LINES = "application/x-ndjson"
MEDIA_TYPES = (*ENCODINGS, LINES, JSON)
ANY_IMAGE, ANY_IMAGE_TYPE = "image/*", "image/jpeg"  # JPEG: a drawing as PNG has several times the bytes


SYNONYMS = {
    "conf": "score_threshold, from 0 to 1, is what you mean",
    "confidence": "score_threshold, from 0 to 1, is what you mean",
    "threshold": "score_threshold, from 0 to 1, is what you mean",
    "max_det": "max_detections is what you mean",
    "iou": "the threshold of non-maximum suppression is fixed when a model is exported",
    "iou_threshold": "the threshold of non-maximum suppression is fixed when a model is exported",
    "overlap": "the threshold of non-maximum suppression is fixed when a model is exported",
    "imgsz": "the size that images are scaled to is fixed when a model is exported",
}
"""What clients of other servers send."""


class Parameters(BaseModel):
    """The parameters of a detection, in the query or the body."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    score_threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Nothing at or below it is answered; at least the model's own.",
    )
    max_detections: int | None = Field(None, ge=1, description="The best so many; at most the model's own.")
    classes: list[str] = Field(
        [], description="Classes to answer, by name or label: separated by commas, or given several times."
    )
    masks: str = Field("rle", description="Form of the masks.", json_schema_extra={"enum": [*MASK_FORMS, "none"]})
    format: str = Field("native", description="Form of the answer.", json_schema_extra={"enum": [*FORMATS]})
    image_id: int = Field(0, ge=0, description="COCO answers: the image's id; further images count up from it.")


@dataclass(frozen=True)
class DetectOptions:
    """The validated options of a detection request; made by `read_options`."""

    card: ModelCard
    score_threshold: float
    max_detections: int | None
    labels: list[int] | None
    """Those to answer; None: all."""
    masks: str
    format: str
    image_id: int
    media_type: str
    """One of MEDIA_TYPES."""

    @property
    def is_drawing(self) -> bool:
        return self.media_type in ENCODINGS

    @property
    def want_masks(self) -> bool:
        return self.card.has_masks and mask_form(self.masks) is not None

    def select(self, detections: Detections) -> Detections:
        """Return the detections that the options select."""
        if self.labels is not None:
            detections = detections[np.isin(detections.labels, self.labels)]
        return detections[: self.max_detections]


def read_options(
    query: QueryParams, in_body: Sequence[tuple[str, Any]], accept: str | None, card: ModelCard
) -> DetectOptions:
    """Return the options in a request's query, body and Accept header, checked against the model's card.

    Raises:
        ParameterError: a parameter is unknown, outside what it may be, or given twice with different values.
    """
    parameters = _read(query.multi_items(), in_body)
    mask_form(parameters.masks)
    if parameters.format not in FORMATS:
        raise ParameterError(f"format must be one of {', '.join(FORMATS)}, not {shortened(parameters.format)}.")
    media_type = _media_type(accept)
    threshold = parameters.score_threshold
    if threshold is None and media_type in ENCODINGS:
        threshold = DRAWING_THRESHOLD
    return DetectOptions(
        card=card,
        score_threshold=checked_threshold(threshold, card),
        max_detections=parameters.max_detections,
        labels=_labels(parameters.classes, card),
        masks=parameters.masks,
        format=parameters.format,
        image_id=parameters.image_id,
        media_type=media_type,
    )


def _read(*places: Sequence[tuple[str, Any]]) -> Parameters:
    """Read the parameters of several places."""
    found: dict[str, Any] = {}
    for pairs in places:
        in_place: dict[str, Any] = {}
        for name, value in pairs:
            checked = _checked(name, value)
            if name == "classes":
                in_place[name] = [*in_place.get(name, []), *checked]
            else:
                _set(in_place, name, checked)
        for name, value in in_place.items():
            _set(found, name, value)
    return Parameters.model_construct(**found)  # each value was checked


def _set(found: dict[str, Any], name: str, value: Any) -> None:
    if found.setdefault(name, value) != value:
        first, second = (shortened(repr(given)) for given in (found[name], value))
        raise ParameterError(f"{name} is given twice, as {first} and as {second}: give it once.")


def _checked(name: str, value: Any) -> Any:
    """Return a parameter's value as its field has it.

    Raises:
        ParameterError: there is no such parameter, or it can't be that.
    """
    if name not in Parameters.model_fields:
        hint = SYNONYMS.get(name, f"use one of {', '.join(Parameters.model_fields)}")
        raise ParameterError(f"There is no parameter {shortened(repr(name))}: {hint}.")
    if isinstance(value, bool):  # pydantic takes it for a number
        raise ParameterError(f"{name} can't be {str(value).lower()}.")
    given = [value] if name == "classes" and isinstance(value, str | int) else value
    if name == "classes" and isinstance(given, list):
        given = [str(one) if isinstance(one, int) and not isinstance(one, bool) else one for one in given]
    try:
        return getattr(Parameters.model_validate({name: given}), name)
    except ValidationError as errors:
        error = errors.errors(include_url=False)[0]
        raise ParameterError(f"{name} can't be {shortened(repr(value))}: {error['msg'].lower()}.") from errors


def _labels(classes: list[str], card: ModelCard) -> list[int] | None:
    if not classes:
        return None
    names = [name for value in classes for name in ([value] if value in card.classes else value.split(","))]
    return [_label(name.strip(), card) for name in names]


def _label(name: str, card: ModelCard) -> int:
    if name in card.classes:
        return card.classes.index(name)
    if name.isdecimal() and int(name) < len(card.classes):
        return int(name)
    raise ParameterError(f"{card.name} has no class {shortened(repr(name))}: /v1/models/{card.name} lists its classes.")


def _media_type(accept: str | None) -> str:
    """Return the one of MEDIA_TYPES that an Accept header asks for; JSON where its first choice is none of them."""
    choice = JSON if accept is None else first_preferred(accept)
    if choice == ANY_IMAGE:
        return ANY_IMAGE_TYPE
    return choice if choice in MEDIA_TYPES else JSON
