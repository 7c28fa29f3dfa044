"""`resnest serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from resnest_core.errors import MissingExtraError, ParameterError


def register(app: typer.Typer) -> None:
    """Add the commands of this package."""
    app.command()(serve)


def serve(
    model: Annotated[
        list[str] | None, typer.Option(help="Model to serve, several times for several; else all.")
    ] = None,
    runtime: Annotated[str | None, typer.Option(help="onnxruntime or openvino.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda.")] = None,
    repository: Annotated[Path | None, typer.Option(help="The model repository.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1 if not given.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 8000 if not given.")] = None,
) -> None:
    """Serve models over HTTP. Every setting is also an environment variable, RESNEST_…"""
    try:
        import uvicorn
        from pydantic import ValidationError

        from resnest_server.app import create_app
        from resnest_server.models import load_detectors
        from resnest_server.settings import Settings
    except ImportError as error:
        raise MissingExtraError(error.name or "fastapi", "server") from error

    options: dict[str, Any] = {
        "models": model,
        "runtime": runtime,
        "device": device,
        "repository": repository,
        "host": host,
        "port": port,
    }
    try:
        settings = Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as errors:
        first = errors.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        raise ParameterError(f"The setting {name} can't be {first['input']!r}: {first['msg'].lower()}.") from errors
    # Loaded before the server starts: a model that can't be is an error of this command.
    app = create_app(settings, load_detectors(settings))
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        timeout_graceful_shutdown=settings.shutdown_seconds,
        server_header=False,
    )
