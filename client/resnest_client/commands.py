"""`resnest detect`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from resnest_client.concurrency import in_order
from resnest_client.outputs import SUFFIXES, Output, Result, choose_output
from resnest_client.progress import progress_bar
from resnest_client.sending import GRPC_MAX_CONCURRENCY, MAX_CONCURRENCY
from resnest_core.detections import Detections
from resnest_core.detector import Detector, InProcessDetector, checked_threshold
from resnest_core.errors import (
    AccessError,
    ImageError,
    ModelNotFoundError,
    ParameterError,
    RemoteError,
    RuntimeUnavailableError,
)
from resnest_core.masks import MASK_FORMS, mask_form
from resnest_core.repository import default_model, find_repository, installed_models, load_detector

if TYPE_CHECKING:
    from resnest_client import GrpcDetector, HttpDetector

SOME_FAILED = 2  # exit code where some images couldn't be used
GRPC = "grpc://"


class AnswerFormat(str, Enum):
    """What `--format` takes."""

    NATIVE = "native"
    COCO = "coco"


def register(app: typer.Typer) -> None:
    """Add the commands of this package."""
    app.command()(detect)


def detect(
    images: Annotated[list[Path], typer.Argument(help="Image files, and folders of them.")],
    model: Annotated[str | None, typer.Option(help="Name of the model; the default one if not given.")] = None,
    runtime: Annotated[str | None, typer.Option(help="onnxruntime, if not given, or openvino.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, if not given, or cuda.")] = None,
    repository: Annotated[Path | None, typer.Option(help="The model repository.")] = None,
    url: Annotated[
        str | None,
        typer.Option(help="To ask instead: a gateway, http://localhost:8000, or Triton, grpc://localhost:8001."),
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(help="Of the gateway; better in the environment, as RESNEST_API_KEY.")
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            help="Requests in flight at a time; if not given "
            f"{MAX_CONCURRENCY} to a gateway, {GRPC_MAX_CONCURRENCY} to Triton."
        ),
    ] = None,
    score_threshold: Annotated[
        float | None, typer.Option(help="0…1; nothing at or below it is answered. Drawings: 0.3 if not given.")
    ] = None,
    answer_format: Annotated[AnswerFormat, typer.Option("--format", help="Of the JSON.")] = AnswerFormat.NATIVE,
    masks: Annotated[str, typer.Option(help=f"Form of the masks: {', '.join(MASK_FORMS)} or none.")] = "rle",
    output: Annotated[
        Path | None,
        typer.Option(
            help="FILE.json for a list of answers; FILE.jsonl for one a line, as they come: run again, the command "
            "does what isn't there yet; or a folder for drawn images. Else JSON on stdout."
        ),
    ] = None,
) -> None:
    """Detect objects in images: JSON, COCO results, or drawn images."""
    _check_options(url, {"--runtime": runtime, "--device": device, "--repository": repository}, concurrency, api_key)
    every = list(_files(images))
    want_masks = mask_form(masks) is not None
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    with choose_output(output, every, masks, is_coco=answer_format is AnswerFormat.COCO) as chosen:
        files = chosen.left(every)
        if done := len(set(every) - set(files)):
            console.print(f"{done} of {len(set(every))} images are done already.")
        if not files:
            return
        if score_threshold is None:
            score_threshold = chosen.score_threshold
        at_once = _at_once(url, concurrency)
        with (
            _local(model, runtime, device, repository, console)
            if url is None
            else _remote(url, model, api_key, at_once)
        ) as detector:
            checked_threshold(score_threshold, detector.card)
            chosen.begin(detector.card)
            work = partial(_timed, detector, score_threshold, want_masks)
            failed = _detect(work, files, at_once, chosen, console, detector.close)
        chosen.finish()
    if output and console.is_terminal:
        console.print(f"What was found is in {output}.", markup=False)
    if failed:
        if len(files) > 1:
            console.print(f"{failed} of {len(files)} images couldn't be used.")
        raise typer.Exit(SOME_FAILED)


def _detect(
    work: Callable[[Path], tuple[Detections, float]],
    files: list[Path],
    at_once: int,
    output: Output,
    console: Console,
    stop: Callable[[], None],
) -> int:
    """Give each file's result to the output, in order, and return how many files couldn't be used.

    Interrupted, it calls `stop`, so that what is in flight needn't be waited for.
    """
    failed = 0
    ids = _image_ids(files)
    with closing(in_order(work, files, at_once)) as results, progress_bar(console) as progress:
        tracked = progress.track(files, description="Detecting")
        for image_id, file, result in zip(ids, tracked, results, strict=True):
            try:
                found, milliseconds = result()
                output.add(Result(file, image_id, found, milliseconds))
            except ImageError as error:
                failed += 1
                console.print(f"{file}: {error}", markup=False)
            except (AccessError, ModelNotFoundError, RemoteError, RuntimeUnavailableError) as error:
                raise type(error)(f"{error} {output.kept}".strip()) from error
            except KeyboardInterrupt:
                stop()
                raise
    return failed


def _check_options(url: str | None, local: dict[str, object], concurrency: int | None, api_key: str | None) -> None:
    """Refuse options that would do nothing.

    Raises:
        ParameterError: there is one.
    """
    given = [name for name, value in local.items() if value is not None]
    if url is not None and given:
        raise ParameterError(f"{' and '.join(given)} can't be chosen with --url: the server has its own.")
    if url is not None and url.startswith(GRPC) and api_key is not None:
        raise ParameterError("--api-key is for a gateway: Triton asks for none.")
    if url is None and concurrency is not None:
        raise ParameterError("--concurrency is for --url: in this process one image is detected after the other.")
    if concurrency is not None and concurrency < 1:
        raise ParameterError(f"--concurrency must be at least 1, not {concurrency}.")


def _timed(detector: Detector, score_threshold: float | None, masks: bool, file: Path) -> tuple[Detections, float]:
    """Return what is in a file, and the milliseconds it took."""
    start = time.perf_counter()
    found = detector.detect(file, score_threshold=score_threshold, masks=masks)
    return found, round((time.perf_counter() - start) * 1000, 1)


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the files, and the images in the folders, sorted by name.

    Raises:
        ParameterError: a path isn't there, or a folder holds no images.
    """
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
            if not inside:
                raise ParameterError(f"The folder {path} holds no images: name one that does.")
            yield from inside
        elif path.exists():
            yield path
        else:
            raise ParameterError(f"There is no file or folder {path}.")


def _image_ids(files: list[Path]) -> list[int]:
    """Return COCO's ids, which its files are named by; where they aren't, or not all, their places in the list."""
    numbers = [int(file.stem) for file in files if file.stem.isdecimal()]
    return numbers if len(set(numbers)) == len(files) else list(range(len(files)))


def _at_once(url: str | None, concurrency: int | None) -> int:
    """Return how many files are worked on at a time."""
    if url is None:
        return 1
    return concurrency or (GRPC_MAX_CONCURRENCY if url.startswith(GRPC) else MAX_CONCURRENCY)


def _remote(url: str, model: str | None, api_key: str | None, concurrency: int) -> GrpcDetector | HttpDetector:
    if url.startswith(GRPC):
        from resnest_client import GrpcDetector

        return GrpcDetector(url, model, max_concurrency=concurrency)
    from resnest_client import HttpDetector

    return HttpDetector(url, model, api_key=api_key, max_concurrency=concurrency)


def _local(
    model: str | None, runtime: str | None, device: str | None, repository: Path | None, console: Console
) -> InProcessDetector:
    if model is None:
        where = find_repository(repository)
        names = installed_models(where)
        if not names:
            raise ModelNotFoundError(f"There are no models in {where}: `resnest export NAME` makes one.")
        model = default_model(names)
        if len(names) > 1:
            console.print(f"Using {model}, the first of {', '.join(names)}; --model names another.")
    return load_detector(model, runtime=runtime or "onnxruntime", device=device or "cpu", repository=repository)
