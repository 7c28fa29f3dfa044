"""The gateway as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from anyio.to_thread import run_sync
from fastapi import FastAPI

import resnest_core
from resnest_core.detector import InProcessDetector
from resnest_server import problems
from resnest_server.models import Models, load_detectors
from resnest_server.pipeline import Pipeline
from resnest_server.routes import router
from resnest_server.settings import Settings


def create_app(settings: Settings | None = None, detectors: Mapping[str, InProcessDetector] | None = None) -> FastAPI:
    """Return the gateway.

    Args:
        settings: None: those of the environment.
        detectors: by name; None: the application loads those that the settings name when it starts. It closes them,
            given or not, when it ends.

    Raises, when it starts:
        ModelNotFoundError, InvalidModelError, RuntimeUnavailableError: a model can't be loaded.
    """
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loaded = detectors if detectors is not None else await run_sync(load_detectors, settings)
        models = Models(loaded, settings.default_model)
        app.state.settings = settings
        app.state.models = models
        app.state.pipeline = Pipeline(settings.max_pixels)
        app.state.ready = True
        yield
        app.state.ready = False
        models.close()

    app = FastAPI(
        title="ResNeSt serving",
        description="Post an image, get boxes and masks.",
        version=resnest_core.__version__,
        lifespan=lifespan,
    )
    problems.install(app)
    app.include_router(router)
    return app
