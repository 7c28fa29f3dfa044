"""`resnest repository`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resnest_core.buckets import Buckets
from resnest_core.errors import ModelNotFoundError
from resnest_core.repository import find_repository
from resnest_core.runtimes import runtimes_on
from resnest_export.triton_repository.options import Platform, Serving

DEFAULT = Serving()
MOST = 2**31 - 1  # what Triton's configuration holds
DAY_SECONDS = 86_400


def repository(
    names: Annotated[list[str] | None, typer.Argument(help="Models of the repository; else all.")] = None,
    repository: Annotated[Path | None, typer.Option(help="The model repository.")] = None,
    platform: Annotated[Platform, typer.Option(help="What runs the network in Triton.")] = DEFAULT.platform,
    runtime: Annotated[
        str, typer.Option(help=f"Of the platform cpu: {' or '.join(runtimes_on('cpu'))}.")
    ] = DEFAULT.runtime,
    threads: Annotated[
        int,
        typer.Option(
            min=0, max=MOST, help="Of each instance on the platform cpu; 0: its share of the CPUs that Triton may use."
        ),
    ] = DEFAULT.threads,
    buckets: Annotated[Buckets, typer.Option(help="Which shapes images are padded to.")] = DEFAULT.buckets,
    max_batch: Annotated[int, typer.Option(min=1, max=MOST, help="Images in a batch.")] = DEFAULT.max_batch,
    queue_delay_ms: Annotated[
        float, typer.Option(min=0, max=DAY_SECONDS * 1e3, help="How long an image waits for others to share its batch.")
    ] = DEFAULT.queue_delay_microseconds / 1e3,
    queue_timeout: Annotated[
        float, typer.Option(min=0.001, max=DAY_SECONDS, help="Seconds that an image may wait in a queue.")
    ] = DEFAULT.timeout_microseconds / 1e6,
    max_queue: Annotated[int, typer.Option(min=1, max=MOST, help="Images that may wait.")] = DEFAULT.max_queue,
    preprocess_instances: Annotated[
        int, typer.Option(min=1, max=MOST, help="Processes that decode.")
    ] = DEFAULT.preprocess_instances,
    network_instances: Annotated[
        int, typer.Option(min=1, max=MOST, help="Networks side by side.")
    ] = DEFAULT.network_instances,
) -> None:
    """Write what Triton needs to serve the models of a repository."""
    from resnest_export.triton_repository.writer import write_repository

    serving = Serving(
        platform=platform,
        runtime=runtime,
        threads=threads,
        buckets=buckets,
        max_batch=max_batch,
        queue_delay_microseconds=round(queue_delay_ms * 1e3),
        timeout_microseconds=round(queue_timeout * 1e6),
        max_queue=max_queue,
        preprocess_instances=preprocess_instances,
        network_instances=network_instances,
    )
    where = find_repository(repository)
    written = write_repository(where, serving, tuple(names or ()))
    if not written:
        raise ModelNotFoundError(f"There are no models in {where}: `resnest export` makes one.")
    for name in written:
        typer.echo(where / name)
