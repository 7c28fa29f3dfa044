"""POST …/detect: an image in, an answer out; several images in, their answers together or one by one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from typing import TypeAlias

from fastapi import APIRouter, Request
from pydantic_core import to_json
from starlette.responses import Response, StreamingResponse

from resnest_core.errors import ImageError, ParameterError, ResNeStError, RuntimeUnavailableError
from resnest_server import openapi
from resnest_server.bodies import read_body
from resnest_server.disconnects import ClientLeftError, while_connected
from resnest_server.encoded_image import EncodedImage, read_size
from resnest_server.engines import Engine
from resnest_server.gateway import Gateway, GatewayOf, access_checked
from resnest_server.parameters import JSON, LINES, DetectOptions, read_options
from resnest_server.pipeline import Answer
from resnest_server.problems import problem
from resnest_server.timings import Timings

Readable: TypeAlias = EncodedImage | ImageError
"""An image of several, or why it can't be used."""

log = logging.getLogger(__name__)

CLIENT_LEFT = 499  # nobody reads it but the log
router = APIRouter(dependencies=[access_checked])


@router.post("/v1/models/{model}/detect", **openapi.DETECT)
async def detect(model: str, request: Request, gateway: GatewayOf) -> Response:
    """Detect objects in an image, or in several, with the model named."""
    return await _counted(model, request, gateway)


@router.post("/v1/detect", **openapi.DETECT)
async def detect_with_default(request: Request, gateway: GatewayOf) -> Response:
    """Detect objects with the default model."""
    return await _counted(gateway.default, request, gateway)


async def _counted(model: str, request: Request, gateway: Gateway) -> Response:
    """Answer a request, and count it."""
    served = model if model in gateway.engines else ""
    status, form = 200, ""
    resources = ExitStack()
    try:
        engine = gateway.engine(model)
        if gateway.ending:
            gateway.check_ready()
        hold = resources.enter_context(gateway.bytes_in_flight.of_request())
        data, parameters = await read_body(request, gateway.settings, hold)
        images = await _readable(data, gateway)
        options = read_options(request.query_params, parameters, request.headers.get("Accept"), engine.card)
        form = "drawing" if options.is_drawing else options.format
        resources.enter_context(engine.in_flight.reserve(len(images)))
        return await _answer(images, options, request, engine, gateway, resources)
    except ClientLeftError:
        status = CLIENT_LEFT
        return Response(status_code=CLIENT_LEFT)
    except Exception as error:
        status = problem(error)[0].value
        raise
    finally:
        resources.close()
        gateway.metrics.requests.labels(served, status, form).inc()


async def _readable(images: list[bytes], gateway: Gateway) -> list[Readable]:
    """Read the images' headers.

    Raises:
        ImageError: the only image can't be used.
    """
    found: list[Readable] = []
    for data in images:
        try:
            found.append(await read_size(data, gateway.settings.max_pixels))
        except ImageError as error:
            if len(images) == 1:
                raise
            found.append(error)
    return found


async def _answer(
    images: Sequence[Readable],
    options: DetectOptions,
    request: Request,
    engine: Engine,
    gateway: Gateway,
    resources: ExitStack,
) -> Response:
    """Answer a request that holds `resources`, which it takes over where it goes on answering after it has returned."""
    gateway.access.charge(sum(image.pixels for image in images if isinstance(image, EncodedImage)))
    first = images[0]
    if len(images) == 1 and options.media_type != LINES and isinstance(first, EncodedImage):
        answer = await while_connected(request, _in_time(first, options, options.image_id, engine, gateway))
        headers = {"Server-Timing": answer.timings.header()}
        return Response(answer.body, headers=headers, media_type=options.media_type)
    if options.is_drawing:
        raise ParameterError("A drawing is of one image: send one, or ask for application/json.")
    if options.media_type == LINES:
        return _one_by_one(images, options, engine, gateway, resources.pop_all())
    return await while_connected(request, _together(images, options, engine, gateway))


async def _together(images: Sequence[Readable], options: DetectOptions, engine: Engine, gateway: Gateway) -> Response:
    """Answer in the images' order."""
    timings = Timings()
    answers = (_or_problem(index, image, options, engine, gateway) for index, image in enumerate(images))
    body = b'{"results":[' + b",".join(await asyncio.gather(*answers)) + b"]}"
    return Response(body, headers={"Server-Timing": timings.header()}, media_type=JSON)


def _one_by_one(
    images: Sequence[Readable], options: DetectOptions, engine: Engine, gateway: Gateway, resources: ExitStack
) -> Response:
    """Answer a line per image, as each is ready; it tells the image's `index`."""

    async def line(index: int, image: Readable) -> bytes:
        body = await _or_problem(index, image, options, engine, gateway)
        rest = body[1:] if body.startswith(b"{") else b'"detections":' + body + b"}"
        return b'{"index":%d,' % index + rest + b"\n"

    tasks = [asyncio.ensure_future(line(index, image)) for index, image in enumerate(images)]
    # Not in `lines`: that is never begun where the client has left already.
    asyncio.gather(*tasks, return_exceptions=True).add_done_callback(lambda _: resources.close())

    async def lines() -> AsyncIterator[bytes]:
        try:
            for ready in asyncio.as_completed(tasks):
                yield await ready
        finally:
            for task in tasks:
                task.cancel()

    return StreamingResponse(lines(), media_type=LINES)


async def _or_problem(index: int, image: Readable, options: DetectOptions, engine: Engine, gateway: Gateway) -> bytes:
    """Return the answer for one of several images; of one that can't be used, the problem: the others are answered."""
    try:
        if isinstance(image, ImageError):
            gateway.metrics.decode_failures.labels(engine.name).inc()
            raise image
        return (await _in_time(image, options, options.image_id + index, engine, gateway)).body
    except Exception as error:
        if not isinstance(error, ResNeStError):
            log.exception("An image of several failed.")
        return to_json(problem(error)[1])


async def _in_time(
    image: EncodedImage, options: DetectOptions, image_id: int, engine: Engine, gateway: Gateway
) -> Answer:
    """Return the answer for an image.

    Raises:
        RuntimeUnavailableError: it takes too long.
    """
    seconds = gateway.settings.request_seconds
    try:
        # Not anyio's time-out: gRPC answers a cancellation with one of its own, which anyio takes for somebody else's.
        return await asyncio.wait_for(gateway.pipeline.answer(engine, image, options, image_id), seconds)
    except asyncio.TimeoutError as error:
        raise RuntimeUnavailableError(f"There was no answer within {seconds:g} s: try again later.") from error
