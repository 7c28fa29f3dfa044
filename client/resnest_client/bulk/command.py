"""`resnest detect --ray`: its options, and what they refuse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperCommand

from resnest_client.bulk.cluster import ADDRESS, LOCAL
from resnest_client.bulk.run import detect_dataset
from resnest_client.detector_options import DetectorOptions
from resnest_client.video.reader import is_video
from resnest_core.errors import ParameterError

RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="[ADDRESS]",
        help="Detect on a Ray cluster, at host:port or auto; without an address one is started on this machine. "
        "Sources are folders, patterns or Parquet files, also s3://…; --output is a folder for Parquet files, or "
        "for JSON Lines with --format. A second run resumes. --concurrency is the number of workers.",
    ),
]
ImageColumnOption = Annotated[
    str | None,
    typer.Option("--image-column", help="With --ray: the column of a Parquet file with images or addresses."),
]
NameColumnOption = Annotated[
    str | None, typer.Option("--name-column", help="With --ray: the column of a Parquet file with the images' names.")
]
ThreadsOption = Annotated[int | None, typer.Option("--threads", help="With --ray: CPUs of a worker. Default: up to 4.")]


class CommandWithRay(TyperCommand):
    """A command whose option `--ray` may have an address, or none: what follows it and is no address is a source."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for index, argument in enumerate(args):
            if argument == "--":
                break
            if argument == "--ray" and not (index + 1 < len(args) and ADDRESS.fullmatch(args[index + 1])):
                args[index] = f"--ray={LOCAL}"
        return super().parse_args(ctx, args)


def refuse_without_ray(**given: object) -> None:
    """Raise ParameterError where an option for `--ray` is given without it."""
    if names := _names(given):
        raise ParameterError(f"{names} can only be used with --ray.")


def detect_on_ray(
    address: str,
    sources: Sequence[str],
    output: str | None,
    options: DetectorOptions,
    console: Console,
    refused: dict[str, object],
    **arguments: Any,
) -> bool:
    """Run `detect_dataset`, and tell whether all images could be used.

    Args:
        address: of the cluster.
        sources: as given.
        output: as given.
        options: of the detector.
        console: is told of the progress.
        refused: options of the command that have no meaning here, by name; None or False: not given.
        arguments: further ones of `detect_dataset`.

    Raises:
        ParameterError: an option has no meaning here, or as `detect_dataset`.
    """
    if names := _names({"url": options.url, "api_key": options.api_key, **refused}):
        raise ParameterError(f"{names} can't be used with --ray: leave it out.")
    if any(is_video(source) for source in sources):
        raise ParameterError("A video can't be detected in with --ray: leave it out.")
    if output is None or output.endswith((".json", ".jsonl", ".parquet")):
        raise ParameterError("--ray needs a folder as --output, for files of Parquet, or of JSON Lines with --format.")
    result = detect_dataset(
        sources,
        output,
        address=address,
        model=options.model,
        runtime=options.runtime,
        device=options.device,
        repository=options.repository,
        console=console,
        **arguments,
    )
    if result.failed:
        total = result.images + result.failed
        console.print(f"{result.failed} of {total} images couldn't be used: {output}/errors says why.", markup=False)
    if console.is_terminal:
        console.print(f"What was found is in {output}.", markup=False)
    return not result.failed


def _names(given: dict[str, object]) -> str:
    return " and ".join(
        f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None and value is not False
    )
