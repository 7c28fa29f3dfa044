"""`resnest detect`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from resnest_client.bench.commands import bench
from resnest_client.bulk.command import (
    CommandWithRay,
    ImageColumnOption,
    NameColumnOption,
    RayOption,
    ThreadsOption,
    detect_on_ray,
    refuse_without_ray,
)
from resnest_client.concurrency import in_order
from resnest_client.detector_options import (
    ApiKeyOption,
    ConcurrencyOption,
    DetectorOptions,
    DeviceOption,
    ModelOption,
    RepositoryOption,
    RuntimeOption,
    UrlOption,
)
from resnest_client.eval_commands import evaluate
from resnest_client.image_ids import ImageIds, ids_by_name, ids_of_annotations
from resnest_client.outputs import AnswerWriter, ImageResult, Output, choose_output
from resnest_client.progress import progress_bar
from resnest_client.video.reader import is_video
from resnest_client.video.run import VideoOptions, detect_in_video
from resnest_core.detections import Detections
from resnest_core.detector import Detector, checked_threshold
from resnest_core.errors import (
    AccessError,
    ImageError,
    ModelNotFoundError,
    ParameterError,
    RemoteError,
    RuntimeUnavailableError,
)
from resnest_core.evaluation import ImageId, read_image_ids
from resnest_core.formats import FORMATS
from resnest_core.image_folder import FolderContents, folder_contents, left_out_sentence
from resnest_core.masks import MASK_FORMS, mask_form
from resnest_core.tiles import Tiles

SOME_FAILED = 2  # exit code where some images couldn't be used


def register(app: typer.Typer) -> None:
    """Add the commands of this package."""
    app.command(cls=CommandWithRay)(detect)
    app.command("eval")(evaluate)
    app.command()(bench)


def detect(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Image files, and folders of them; or one video: a file, a camera (/dev/video0 or 0), or the address "
            "of a stream (rtsp://…)."
        ),
    ],
    model: ModelOption = None,
    runtime: RuntimeOption = None,
    device: DeviceOption = None,
    repository: RepositoryOption = None,
    url: UrlOption = None,
    api_key: ApiKeyOption = None,
    concurrency: ConcurrencyOption = None,
    score_threshold: Annotated[
        float | None,
        typer.Option(help="0…1: only detections above it are returned. Default: the model's own; for drawings 0.3."),
    ] = None,
    answer_format: Annotated[
        str | None, typer.Option("--format", help=f"Response format: {', '.join(FORMATS)}. Default: native.")
    ] = None,
    masks: Annotated[str, typer.Option(help=f"Mask encoding: {', '.join(MASK_FORMS)} or none.")] = "rle",
    annotations: Annotated[
        Path | None,
        typer.Option(help="With --format coco: annotations of the images, whose ids are taken. Default: of the names."),
    ] = None,
    output_address: Annotated[
        str | None,
        typer.Option(
            "--output",
            help="FILE.json: a list of responses. FILE.jsonl: one response per line, written as it arrives; a second "
            "run resumes. A folder: drawn images. Default: JSON on stdout. Of a video: FILE.jsonl, or an annotated "
            "video, FILE.mp4, .mov, .mkv or .webm.",
        ),
    ] = None,
    tiles: Annotated[
        int | None, typer.Option(help="Detect in windows of so many pixels on a side, for large images.")
    ] = None,
    overlap: Annotated[float, typer.Option(help="With --tiles: share of a window that the next one has too.")] = 0.2,
    every_nth: Annotated[int, typer.Option("--every", help="Of a video: detect in each Nth frame.")] = 1,
    start: Annotated[float, typer.Option(help="Of a video: seconds at which to start.")] = 0.0,
    end: Annotated[float | None, typer.Option(help="Of a video: seconds at which to end. Default: its end.")] = None,
    track: Annotated[bool, typer.Option("--track", help="Of a video: number the objects.")] = False,
    ray: RayOption = None,
    image_column: ImageColumnOption = None,
    name_column: NameColumnOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Detect objects in images or in a video: JSON in one of several formats, drawn images, or an annotated video."""
    detector_options = DetectorOptions(url, model, runtime, device, repository, api_key)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if ray is not None:
        # Without meaning there.
        refused: dict[str, object] = {"annotations": annotations, "tiles": tiles, "end": end, "track": track}
        refused |= {"every": None if every_nth == 1 else every_nth, "start": start or None}
        if not detect_on_ray(
            ray,
            sources,
            output_address,
            detector_options,
            console,
            refused,
            score_threshold=score_threshold,
            answer_format=answer_format,
            masks=masks,
            image_column=image_column,
            name_column=name_column,
            workers=concurrency,
            threads=threads,
        ):
            raise typer.Exit(SOME_FAILED)
        return
    refuse_without_ray(image_column=image_column, name_column=name_column, threads=threads)
    output = Path(output_address) if output_address is not None else None
    answer_format = answer_format or "native"
    at_once = detector_options.at_once(concurrency)
    want_masks = mask_form(masks) is not None
    windows = None if tiles is None else Tiles(tiles, overlap)
    of_video = VideoOptions(every_nth, start, end, track, windows)
    if any(is_video(source) for source in sources):
        if len(sources) > 1:
            raise ParameterError("A video is detected in by itself: name no other source with it.")
        if annotations:
            raise ParameterError("--annotations has images' ids, which a video's frames don't have: leave it out.")
        writer = AnswerWriter.named(answer_format, masks)
        with detector_options.open(console, at_once) as detector:
            if not detect_in_video(sources[0], detector, of_video, output, writer, console, score_threshold):
                raise typer.Exit(SOME_FAILED)
        return
    if of_video != VideoOptions(tiles=windows):
        raise ParameterError("--every, --start, --end and --track are for videos: leave them out for images.")
    every, left_out = _files(map(Path, sources))
    with choose_output(output, every, answer_format, masks) as chosen:
        if annotations and not chosen.needs_image_ids:
            raise ParameterError("--annotations gives image ids, which only --format coco has: leave it out.")
        files = chosen.remaining(every)
        image_ids = _image_ids(files, annotations) if chosen.needs_image_ids else ImageIds([*range(len(files))])
        if left_out:
            console.print(left_out_sentence(left_out), markup=False)
        if image_ids.warning:
            console.print(image_ids.warning, markup=False)
        if done := len(set(every) - set(files)):
            console.print(f"{done} of {len(set(every))} images are done already.")
        if not files:
            return
        if score_threshold is None:
            score_threshold = chosen.score_threshold
        with detector_options.open(console, at_once) as detector:
            checked_threshold(score_threshold, detector.card)
            chosen.begin(detector.card)
            work = partial(_timed, detector, score_threshold, want_masks, windows)
            failed = _detect(work, files, image_ids.ids, at_once, chosen, console, detector.close)
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
    ids: list[ImageId],
    at_once: int,
    output: Output,
    console: Console,
    stop: Callable[[], None],
) -> int:
    """Pass each file's result to the output, in order, and return how many files couldn't be used.

    Interrupted, it calls `stop`, so that what is in flight needn't be waited for.
    """
    failed = 0
    with closing(in_order(work, files, at_once)) as results, progress_bar(console) as progress:
        tracked = progress.track(files, description="Detecting")
        for image_id, file, result in zip(ids, tracked, results, strict=True):
            try:
                found, milliseconds = result()
                output.add(ImageResult(file, image_id, found, milliseconds))
            except ImageError as error:
                failed += 1
                console.print(f"{file}: {error}", markup=False)
            except (AccessError, ModelNotFoundError, RemoteError, RuntimeUnavailableError) as error:
                raise type(error)(f"{error} {output.resume_hint}".strip()) from error
            except KeyboardInterrupt:
                stop()
                raise
    return failed


def _timed(
    detector: Detector, score_threshold: float | None, masks: bool, tiles: Tiles | None, file: Path
) -> tuple[Detections, float]:
    """Return the detections of a file, and the milliseconds they took."""
    start = time.perf_counter()
    found = detector.detect(file, score_threshold=score_threshold, masks=masks, tiles=tiles)
    return found, round((time.perf_counter() - start) * 1000, 1)


def _files(paths: Iterable[Path]) -> FolderContents:
    """Return the files, and the images in the folders, sorted by name; and what else is in the folders.

    Raises:
        ParameterError: a path isn't there, or a folder holds no images.
    """
    every = FolderContents([], [])
    for path in paths:
        if path.is_dir():
            images, left_out = folder_contents(path)
            if not images:
                raise ParameterError(f"The folder {path} holds no images: name one that does.")
            every.images.extend(images)
            every.left_out.extend(left_out)
        elif path.exists():
            every.images.append(path)
        else:
            raise ParameterError(f"There is no file or folder {path}.")
    return every


def _image_ids(files: list[Path], annotations: Path | None) -> ImageIds:
    if annotations is None:
        return ids_by_name(files)
    return ids_of_annotations(files, read_image_ids(annotations), annotations)
