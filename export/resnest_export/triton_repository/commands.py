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
MOST = 2**31 - 1  # largest int32, the type of the fields in Triton's configuration
DAY_SECONDS = 86_400


def repository(
    names: Annotated[list[str] | None, typer.Argument(help="Models to configure; default: all.")] = None,
    repository: Annotated[Path | None, typer.Option(help="The model repository.")] = None,
    platform: Annotated[Platform, typer.Option(help="Triton backend of the network.")] = DEFAULT.platform,
    runtime: Annotated[
        str, typer.Option(help=f"Platform cpu: runtime, {' or '.join(runtimes_on('cpu'))}.")
    ] = DEFAULT.runtime,
    threads: Annotated[
        int,
        typer.Option(
            min=0,
            max=MOST,
            help="Platform cpu: threads per instance; 0: an equal share of the available CPUs.",
        ),
    ] = DEFAULT.threads,
    buckets: Annotated[Buckets, typer.Option(help="Shapes that images are padded to.")] = DEFAULT.buckets,
    max_batch: Annotated[int, typer.Option(min=1, max=MOST, help="Largest batch, in images.")] = DEFAULT.max_batch,
    queue_delay_ms: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=DAY_SECONDS * 1e3,
            help="Longest wait for a batch to fill, in milliseconds. Default: 5, with tensorrt 0.",
        ),
    ] = None,
    queue_timeout: Annotated[
        float, typer.Option(min=0.001, max=DAY_SECONDS, help="Longest wait in a queue, in seconds.")
    ] = DEFAULT.timeout_microseconds / 1e6,
    max_queue: Annotated[int, typer.Option(min=1, max=MOST, help="Longest queue, in images.")] = DEFAULT.max_queue,
    preprocess_instances: Annotated[
        int | None,
        typer.Option(
            min=1, max=MOST, help="Processes that decode and resize images, one at a time. Default: 2, with tensorrt 4."
        ),
    ] = None,
    network_instances: Annotated[
        int, typer.Option(min=1, max=MOST, help="Instances of the network.")
    ] = DEFAULT.network_instances,
    cuda_graphs: Annotated[
        bool,
        typer.Option(
            "--cuda-graphs",
            help="Platform tensorrt: capture CUDA graphs. Check the answers with `tools/gpu_check.sh --triton`.",
        ),
    ] = DEFAULT.cuda_graphs,
) -> None:
    """Write Triton's configuration files for the models of a repository."""
    from resnest_export.triton_repository.writer import write_repository

    serving = Serving(
        platform=platform,
        runtime=runtime,
        threads=threads,
        buckets=buckets,
        max_batch=max_batch,
        queue_delay_microseconds=None if queue_delay_ms is None else round(queue_delay_ms * 1e3),
        timeout_microseconds=round(queue_timeout * 1e6),
        max_queue=max_queue,
        preprocess_instances=preprocess_instances,
        network_instances=network_instances,
        cuda_graphs=cuda_graphs,
    )
    where = find_repository(repository)
    written = write_repository(where, serving, tuple(names or ()))
    if not written:
        raise ModelNotFoundError(f"There are no models in {where}: `resnest export` makes one.")
    for name in written:
        typer.echo(where / name)
