"""`resnest detect`."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import track

from resnest_client.concurrency import in_order
from resnest_core.card import ModelCard
from resnest_core.detections import Detections
from resnest_core.detector import Detector, InProcessDetector, checked_threshold
from resnest_core.drawing import DRAWING_THRESHOLD, draw, encode
from resnest_core.errors import ImageError, ModelNotFoundError, ParameterError
from resnest_core.formats import coco, native
from resnest_core.images import load_image
from resnest_core.masks import MASK_FORMS, mask_form
from resnest_core.repository import default_model, find_repository, installed_models, load_detector

if TYPE_CHECKING:
    from resnest_client import HttpDetector

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
NUMBERS = re.compile(r"\[\n([-+.\de,\s]*)\]")  # a list of numbers in indented JSON: for the eye, on one line
SOME_FAILED = 2  # exit code where some images couldn't be used
CONCURRENCY = 4  # requests to a gateway that are in flight at a time


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
    url: Annotated[str | None, typer.Option(help="A gateway, such as http://localhost:8000, to ask instead.")] = None,
    api_key: Annotated[
        str | None, typer.Option(help="Of the gateway; better in the environment.", envvar="RESNEST_API_KEY")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(help=f"Requests to the gateway in flight at a time; {CONCURRENCY} if not given.")
    ] = None,
    score_threshold: Annotated[
        float | None, typer.Option(help="0…1; nothing at or below it is answered. Drawings: 0.3 if not given.")
    ] = None,
    answer_format: Annotated[AnswerFormat, typer.Option("--format", help="Of the JSON.")] = AnswerFormat.NATIVE,
    masks: Annotated[str, typer.Option(help=f"Form of the masks: {', '.join(MASK_FORMS)} or none.")] = "rle",
    output: Annotated[
        Path | None, typer.Option(help="FILE.json for the answers, or a folder for drawn images; else JSON on stdout.")
    ] = None,
) -> None:
    """Detect objects in images: JSON, COCO results, or drawn images."""
    _check_options(url, {"--runtime": runtime, "--device": device, "--repository": repository}, concurrency)
    files = list(_files(images))
    want_masks = mask_form(masks) is not None
    drawings = _drawings(files, output) if output and output.suffix != ".json" else {}
    if output:
        _make_folder(output if drawings else output.parent)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    answers: list[dict[str, Any]] = []
    failed = 0
    at_once = 1 if url is None else concurrency or CONCURRENCY
    with (
        _local(model, runtime, device, repository, console) if url is None else _remote(url, model, api_key, at_once)
    ) as detector:
        if drawings and score_threshold is None:
            score_threshold = DRAWING_THRESHOLD
        checked_threshold(score_threshold, detector.card)
        work = partial(_timed, detector, score_threshold, want_masks)
        progress = track(files, "Detecting", console=console, transient=True, disable=not console.is_terminal)
        with closing(in_order(work, files, at_once)) as results:
            for image_id, file, result in zip(_image_ids(files), progress, results, strict=True):
                try:
                    found, milliseconds = result()
                    if drawings:
                        _draw(file, found, detector.card, drawings[file])
                except ImageError as error:
                    failed += 1
                    console.print(f"{file}: {error}", markup=False)
                    continue
                if answer_format is AnswerFormat.COCO:
                    answers += coco(found, detector.card, masks=masks, image_id=image_id)
                else:
                    answer = {"file": str(file), **native(found, detector.card, masks=masks)}
                    answers.append({**answer, "timings_ms": {"total": milliseconds}})
    if not drawings:
        _write(answers, output)
    if output and console.is_terminal:
        console.print(f"The {'drawings' if drawings else 'answers'} are in {output}.", markup=False)
    if failed:
        if len(files) > 1:
            console.print(f"{failed} of {len(files)} images couldn't be used.")
        raise typer.Exit(SOME_FAILED)


def _check_options(url: str | None, local: dict[str, object], concurrency: int | None) -> None:
    """Refuse options that would do nothing.

    Raises:
        ParameterError: there is one.
    """
    given = [name for name, value in local.items() if value is not None]
    if url is not None and given:
        raise ParameterError(f"{' and '.join(given)} can't be chosen with --url: the gateway has its own.")
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


def _drawings(files: list[Path], folder: Path) -> dict[Path, Path]:
    """Return where each file's drawing goes: the same name, as PNG where it was one, else as JPEG.

    Raises:
        ParameterError: it isn't a folder's name, two drawings would have the same one, or one that of an image.
    """
    if folder.suffix.lower() in SUFFIXES:
        raise ParameterError(f"--output {folder} must be a FILE.json, or a folder for drawn images.")
    drawings = {
        file: folder / file.with_suffix(".png" if file.suffix.lower() == ".png" else ".jpg").name for file in files
    }
    path, count = Counter(drawings.values()).most_common(1)[0]
    if count > 1:
        raise ParameterError(f"{count} images would be drawn to {path}: pass them one folder at a time.")
    if folder.resolve() in {file.resolve().parent for file in files}:
        raise ParameterError(f"The folder {folder} holds the images themselves: name another --output.")
    return drawings


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ParameterError(f"The folder {folder} can't be made ({error.strerror}): name another --output.") from error


def _draw(file: Path, found: Detections, card: ModelCard, path: Path) -> None:
    drawing = draw(load_image(file), found, card, score_threshold=0)
    _save(encode(drawing, "image/png" if path.suffix == ".png" else "image/jpeg"), path)


def _image_ids(files: list[Path]) -> list[int]:
    """Return COCO's ids, which its files are named by; where they aren't, or not all, their places in the list."""
    numbers = [int(file.stem) for file in files if file.stem.isdecimal()]
    return numbers if len(set(numbers)) == len(files) else list(range(len(files)))


def _write(answers: list[dict[str, Any]], path: Path | None) -> None:
    if path is None:
        typer.echo(NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", json.dumps(answers, indent=2)))
    else:
        _save(json.dumps(answers).encode(), path)


def _save(data: bytes, path: Path) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise ParameterError(f"{path} can't be written ({error.strerror}): name another --output.") from error


def _remote(url: str, model: str | None, api_key: str | None, concurrency: int) -> HttpDetector:
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
