"""OpenAPI descriptions of the routes that parse their requests themselves."""

from __future__ import annotations

from typing import Any, TypeAlias

from pydantic import BaseModel, Field

from resnest_server.bodies import FIELD, FORM, JSON
from resnest_server.json_image import KEY
from resnest_server.parameters import LINES, Parameters
from resnest_server.problems import INTERNAL, MEDIA_TYPE, PROBLEMS


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(description="Stays the same for a kind of error.")
    title: str
    status: int
    detail: str = Field(description="What to do.")


class Size(BaseModel):
    """Of an image, in pixels."""

    width: int
    height: int


class Detection(BaseModel):
    """One object."""

    box: tuple[float, float, float, float] = Field(description="x1, y1, x2, y2 in pixels of the image.")
    score: float
    label: int = Field(description="Index of the class in the model's card.")
    class_: str = Field(alias="class")
    mask: Any = Field(None, description="In the form asked for; not there without masks.")


class NativeAnswer(BaseModel):
    """The detections of one image, best score first."""

    model: str
    image: Size
    detections: list[Detection]
    timings_ms: dict[str, float]


OtherAnswer: TypeAlias = list[dict[str, Any]] | dict[str, Any]
"""In another format than native."""


class Results(BaseModel):
    """The answers for several images, in order; a problem for an image that can't be used."""

    results: list[NativeAnswer | Problem | OtherAnswer]


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    slugs: dict[int, list[str]] = {}
    for status, slug in (*PROBLEMS.values(), INTERNAL):
        slugs.setdefault(status.value, []).append(slug)
    return {
        status: {
            "description": " or ".join(slugs[status]),
            "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}},
        }
        for status in statuses
    }


LISTED = _problems(401, 429)
CARD = _problems(401, 404, 429)
UNAVAILABLE = _problems(503)

_BYTES = {"schema": {"type": "string", "format": "binary"}}
_FILES = {"type": "array", "items": {"type": "string", "format": "binary"}}


def _parameters() -> list[dict[str, Any]]:
    schemas = Parameters.model_json_schema()["properties"]
    return [
        {"name": name, "in": "query", "required": False, "description": schema.pop("description"), "schema": schema}
        for name, schema in schemas.items()
    ]


def _body(name: str, image: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a body with an image and the parameters of the query."""
    return {
        "type": "object",
        "properties": {name: image, **Parameters.model_json_schema()["properties"]},
        "required": [name],
        "additionalProperties": False,
    }


DETECT: dict[str, Any] = {
    "responses": {
        200: {
            "description": "What was found, in the format asked for, or the image with it drawn in.",
            "model": NativeAnswer | Results | OtherAnswer,
            "content": {"image/png": _BYTES, "image/jpeg": _BYTES, LINES: {"schema": {"type": "string"}}},
        },
        **_problems(400, 401, 404, 408, 413, 415, 422, 429, 500, 503),
    },
    "openapi_extra": {
        "parameters": _parameters(),
        "requestBody": {
            "required": True,
            "content": {
                "image/*": _BYTES,
                FORM: {"schema": _body(FIELD, _FILES)},
                JSON: {"schema": _body(KEY, {"type": "string", "format": "byte"})},
            },
        },
    },
}
