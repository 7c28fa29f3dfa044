"""The gateway's routes under /v1 and /health."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic_core import to_json
from starlette.responses import Response

from resnest_core.card import ModelCard
from resnest_core.detector import InProcessDetector
from resnest_core.errors import ParameterError, ResNeStError, RuntimeUnavailableError
from resnest_core.images import check_image
from resnest_server import openapi
from resnest_server.bodies import read_images
from resnest_server.models import Models
from resnest_server.parameters import JSON, read_asked
from resnest_server.pipeline import Pipeline
from resnest_server.problems import problem
from resnest_server.settings import Settings

router = APIRouter()


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def _models(request: Request) -> Models:
    models: Models = request.app.state.models
    return models


def _pipeline(request: Request) -> Pipeline:
    pipeline: Pipeline = request.app.state.pipeline
    return pipeline


SettingsOf = Annotated[Settings, Depends(_settings)]
ModelsOf = Annotated[Models, Depends(_models)]
PipelineOf = Annotated[Pipeline, Depends(_pipeline)]


@router.post("/v1/models/{model}/detect", **openapi.DETECT)
async def detect(
    model: str, request: Request, settings: SettingsOf, models: ModelsOf, pipeline: PipelineOf
) -> Response:
    """Detect objects in an image, or in several, with the model named."""
    return await _detect(models.find(model), request, settings, pipeline)


@router.post("/v1/detect", **openapi.DETECT)
async def detect_with_default(
    request: Request, settings: SettingsOf, models: ModelsOf, pipeline: PipelineOf
) -> Response:
    """Detect objects with the default model."""
    return await _detect(models.find(models.default), request, settings, pipeline)


async def _detect(detector: InProcessDetector, request: Request, settings: Settings, pipeline: Pipeline) -> Response:
    images = await read_images(request, settings)
    if len(images) == 1:
        check_image(images[0], max_pixels=settings.max_pixels)
    asked = read_asked(request.query_params, request.headers.get("Accept"), detector.card)
    if len(images) == 1:
        return Response(await pipeline.answer(detector, images[0], asked, asked.image_id), media_type=asked.media_type)
    if asked.is_drawing:
        raise ParameterError("A drawing is of one image: send one, or ask for application/json.")

    async def answer(index: int, data: bytes) -> bytes:
        try:
            return await pipeline.answer(detector, data, asked, asked.image_id + index)
        except ResNeStError as error:  # the other images are answered all the same
            return to_json(problem(error)[1])

    answers = await asyncio.gather(*(answer(index, data) for index, data in enumerate(images)))
    return Response(b'{"results":[' + b",".join(answers) + b"]}", media_type=JSON)


@router.get("/v1/models")
async def list_models(models: ModelsOf) -> dict[str, Any]:
    """List the models' cards, and the name of the default one."""
    return {"models": [detector.card for detector in models.detectors.values()], "default": models.default}


@router.get("/v1/models/{model}", responses=openapi.NOT_FOUND)
async def show_model(model: str, models: ModelsOf) -> ModelCard:
    """Show a model's card: classes, test scale, thresholds, checkpoint."""
    return models.find(model).card


@router.get("/health/live")
async def live() -> dict[str, str]:
    """Tell that the process answers."""
    return {"status": "live"}


@router.get("/health/ready", responses=openapi.UNAVAILABLE)
async def ready(request: Request) -> dict[str, str]:
    """Tell whether requests are answered: 503 with the reason where they aren't."""
    if not request.app.state.ready:
        raise RuntimeUnavailableError("The server is about to end: send requests to another.")
    return {"status": "ready"}
