"""The gateway as an ASGI application."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from anyio.to_thread import run_sync
from fastapi import FastAPI
from starlette_compress import CompressMiddleware

import resnest_core
from resnest_server import cors, demo_page, detection, environment, problems, routes
from resnest_server.access import Access
from resnest_server.engine_loading import by_name, choose_default, load_engines
from resnest_server.engines import Engine
from resnest_server.gateway import Gateway
from resnest_server.head_requests import HeadRequests
from resnest_server.in_flight import BytesInFlight
from resnest_server.metrics import Metrics
from resnest_server.pipeline import Pipeline
from resnest_server.request_context import RequestContext
from resnest_server.settings import Settings

COMPRESSED_FROM = 16 * 1024  # bytes of an answer

log = logging.getLogger(__name__)


def create_app(settings: Settings | None = None, engines: Sequence[Engine] | None = None) -> FastAPI:
    """Return the gateway.

    Args:
        settings: None: those of the environment.
        engines: the models to serve; None: those that the settings name are loaded when the application starts. They
            are closed when it ends.

    Raises:
        ParameterError: the file of keys can't be read.

    Raises, when it starts:
        ModelNotFoundError, InvalidModelError, RuntimeUnavailableError: a model can't be loaded.
    """
    if settings is None:
        settings = Settings()
        for warning in environment.warnings(Settings.model_fields):
            log.warning(warning)
    access = Access(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        served = by_name(await run_sync(load_engines, settings) if engines is None else engines)
        default = choose_default(list(served), settings)
        if settings.default_model is None and len(served) > 1:
            log.warning("/v1/detect uses %s, the first of %s.", default, ", ".join(served))
        metrics = Metrics(served)
        pipeline = Pipeline(served, settings, metrics)
        held = BytesInFlight(settings.max_bytes_in_flight)
        app.state.gateway = Gateway(settings, served, default, pipeline, metrics, access, held)
        async with pipeline.running():
            if not access.keys_required:
                log.warning("NO KEYS: anybody who reaches this gateway can use it.")
            log.info("Serving %s.", ", ".join(map(_described, served.values())))
            yield

    app = FastAPI(
        title="ResNeSt serving",
        description="Post an image, get boxes and masks.",
        version=resnest_core.__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    problems.install(app)
    app.include_router(detection.router)
    app.include_router(routes.models)
    app.include_router(routes.operations)
    demo_page.install(app)
    # The last one added is the outermost: each holds for the answers of those before it.
    app.add_middleware(CompressMiddleware, minimum_size=COMPRESSED_FROM)
    app.add_middleware(problems.UnexpectedErrors)
    app.add_middleware(HeadRequests)
    if settings.cors_origins:
        cors.install(app, settings.cors_origins)
    app.add_middleware(RequestContext)
    return app


def _described(engine: Engine) -> str:
    return f"{engine.name} with {engine.runtime} on {engine.device}"
