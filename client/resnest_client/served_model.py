"""A gateway's description of a model that it serves."""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic import BaseModel

from resnest_core.card import ModelCard


class _Backend(BaseModel):
    runtime: str | None = None
    device: str | None = None


class ServedModel(NamedTuple):
    """A model's card, and what runs it as the gateway reports it; None: it doesn't."""

    card: ModelCard
    runtime: str | None
    device: str | None


def read_served_model(answer: Any) -> ServedModel:
    """Return the model that an answer of `/v1/models/{model}` describes.

    Raises:
        pydantic.ValidationError: it describes none.
    """
    backend = _Backend.model_validate(answer)
    return ServedModel(ModelCard.model_validate(answer), backend.runtime, backend.device)
