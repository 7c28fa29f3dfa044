"""`resnest serve`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from resnest_core.errors import MissingExtraError, ParameterError
from resnest_core.runtimes import AUTOMATIC, RUNTIMES, devices


def register(app: typer.Typer) -> None:
    """Add the commands of this package."""
    app.command()(serve)


def serve(
    model: Annotated[
        list[str] | None, typer.Option(help="Model to serve; repeat it for several. Default: all.")
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            help=f"{', '.join(RUNTIMES)}, or triton for a Triton server. Default: the first installed of {AUTOMATIC}."
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help=f"{' or '.join(devices())}. Default: the runtime's first choice.")
    ] = None,
    optimize: Annotated[
        str | None, typer.Option(help="latency or throughput: what the CPUs are divided for. Default: latency.")
    ] = None,
    triton_url: Annotated[
        str | None, typer.Option(help="gRPC address of Triton, such as grpc://host:8001. Default: localhost:8001.")
    ] = None,
    repository: Annotated[Path | None, typer.Option(help="The model repository.")] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; :: is every address of IPv6 and IPv4. Default: 127.0.0.1.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on. Default: 8000.")] = None,
    insecure: Annotated[
        bool | None,
        typer.Option("--insecure", help="Allow serving without API keys on an address that other machines can reach."),
    ] = None,
) -> None:
    """Serve models over HTTP. These and more settings are also environment variables, RESNEST_…"""
    try:
        from pydantic import ValidationError

        from resnest_server.settings import Settings
        from resnest_server.uvicorn_server import serve as run
    except ImportError as error:
        raise MissingExtraError(error.name or "fastapi", "server") from error

    options: dict[str, Any] = {
        "models": model,
        "runtime": runtime,
        "device": device,
        "optimize": optimize,
        "triton_url": triton_url,
        "repository": repository,
        "host": host,
        "port": port,
        "insecure": insecure,
    }
    if sys.stderr.isatty() and "RESNEST_LOG_FORMAT" not in os.environ:
        options["log_format"] = "text"
    try:
        settings = Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as errors:
        first = errors.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"][:1])) or "combination"
        given = "" if "api_keys" in name else f" {first['input']!r}"
        reason = first["msg"].removeprefix("Value error, ")
        raise ParameterError(f"The setting {name} can't be{given}: {reason[:1].lower()}{reason[1:]}.") from errors
    run(settings)
