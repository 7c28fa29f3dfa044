"""`resnest eval`."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from resnest_client.backend import backend_of
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
    without_user,
)
from resnest_client.eval_report import Report
from resnest_client.eval_result_file import report_of_results
from resnest_client.eval_results import KeptResults, Rows
from resnest_client.outputs import make_folder
from resnest_client.progress import progress_bar
from resnest_core.detector import Detector
from resnest_core.errors import (
    AccessError,
    ImageError,
    ModelNotFoundError,
    ParameterError,
    RemoteError,
    ResNeStError,
    RuntimeUnavailableError,
)
from resnest_core.evaluation import AnnotatedImage, compare, read_annotations
from resnest_core.evaluation import results as coco_results
from resnest_core.image_folder import image_files

SOME_FAILED = 2  # exit code where some images couldn't be used
NAMES_SHOWN = 10  # names that a message lists


def evaluate(
    annotations: Annotated[Path, typer.Option(help="COCO's annotations of the images: instances in JSON.")],
    images: Annotated[Path | None, typer.Option(help="The folder of the images.")] = None,
    model: ModelOption = None,
    runtime: RuntimeOption = None,
    device: DeviceOption = None,
    repository: RepositoryOption = None,
    url: UrlOption = None,
    api_key: ApiKeyOption = None,
    concurrency: ConcurrencyOption = None,
    output: Annotated[Path | None, typer.Option(help="FILE.json for the figures, and what they are of.")] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            help="FILE.jsonl for the detections, as they come: run again, the command does what isn't there yet; "
            "at the end FILE.json beside it has them in COCO's results format. A FILE.json that is there is evaluated "
            "in place of a detector."
        ),
    ] = None,
    per_class: Annotated[bool, typer.Option("--per-class", help="AP of each class, too.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Evaluate so many images only, the first ones.")] = None,
) -> None:
    """Measure a detector's accuracy on annotated images: COCO's average precision and recall."""
    detector_options = DetectorOptions(url, model, runtime, device, repository, api_key)
    at_once = detector_options.at_once(concurrency)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if results and results.suffix == ".json" and results.is_file():
        if limit or detector_options != DetectorOptions():
            raise ParameterError(f"{results} is evaluated in place of a detector: leave out its options and --limit.")
        _check_output(output, results)
        report = report_of_results(annotations, results, console)
        report.show(Console(highlight=False, soft_wrap=True), per_class=per_class)
        if output:
            report.save(output, per_class=per_class)
        return
    if images is None:
        raise ParameterError("--images names the folder of the images: add it.")
    with KeptResults(results) as kept:
        _check_output(output, kept.list_path)
        with detector_options.open(console, at_once) as detector:
            truth = read_annotations(annotations, detector.card)
            if detector.card.has_masks and not truth.has_masks:
                console.print("The annotations have no masks: only boxes are evaluated.")
            if truth.without_mask:
                console.print(
                    f"Annotated objects without a segmentation, which count for boxes and are left out for masks: "
                    f"{truth.without_mask}."
                )
            if truth.classes.difference:
                console.print(truth.classes.difference, markup=False)
            present, missing = truth.find(images)
            not_annotated = _report_unmatched_files(annotations, images, present, missing, console)
            source = _source(detector_options, detector)
            made_by = {"model": detector.card.model_dump(mode="json"), "masks": truth.has_masks}
            chosen = present[:limit]
            kept.begin(made_by | (source if url is None else {}), [image for image, _ in chosen])
            failures = _detect(detector, chosen, truth.has_masks, at_once, kept, console)
        if not kept.by_image:
            raise failures.no_image_error()
        ids = list(kept.by_image)
        rows = [row for found in kept.by_image.values() for row in found]
        with console.status("Comparing with the annotations"):
            scores = {iou_type: compare(truth, rows, iou_type, ids) for iou_type in truth.iou_types}
        report = Report(
            card=detector.card,
            source=source,
            annotations=annotations,
            folder=images,
            truth=truth,
            scores=scores,
            evaluated=ids,
            missing=[image.file_name for image in missing],
            not_annotated=not_annotated,
            unusable=failures.unusable,
            stopped=str(failures.stopped) if failures.stopped else None,
        )
        report.show(Console(highlight=False, soft_wrap=True), per_class=per_class)
        kept.finish(truth.classes)
        if output:
            report.save(output, per_class=per_class)
    if failures.stopped:
        done = f"{len(ids)} of {len(chosen)} images were evaluated"
        raise type(failures.stopped)(f"{done}: {failures.stopped} {kept.resume_hint}") from failures.stopped
    if failures.unusable:
        console.print(f"{len(ids)} of {len(chosen)} images were evaluated, the others couldn't be used.")
        raise typer.Exit(SOME_FAILED)


@dataclass
class Failures:
    """Why images have no detections."""

    unusable: dict[str, str] = field(default_factory=dict)
    stopped: ResNeStError | None = None

    def no_image_error(self) -> ResNeStError:
        """Return the error that no image at all was evaluated."""
        if self.stopped:
            return type(self.stopped)(f"No image was evaluated: {self.stopped}")
        name, reason = next(iter(self.unusable.items()))
        return ImageError(f"None of the {len(self.unusable)} images could be used; of {name}: {reason}")


def _detect(
    detector: Detector,
    images: list[tuple[AnnotatedImage, Path]],
    masks: bool,
    at_once: int,
    kept: KeptResults,
    console: Console,
) -> Failures:
    """Detect in the images that have no detections yet, and keep the results; a server's error is returned, not raised.

    Interrupted, it closes the detector, so that what is in flight needn't be waited for.
    """

    def work(item: tuple[AnnotatedImage, Path]) -> Rows:
        image, file = item
        return coco_results(detector.detect(file, masks=masks), detector.card, image)

    left = [(image, file) for image, file in images if image.id not in kept.by_image]
    if done := len(images) - len(left):
        console.print(f"{done} of {len(images)} images are done already.")
    failures = Failures()
    with closing(in_order(work, left, at_once)) as answers, progress_bar(console) as progress:
        tracked = progress.track(left, description="Evaluating")
        for (image, file), answer in zip(tracked, answers, strict=True):
            try:
                kept.add(image, answer())
            except ImageError as error:
                failures.unusable[image.file_name] = str(error)
                console.print(f"{file}: {error}", markup=False)
            except (AccessError, ModelNotFoundError, RemoteError, RuntimeUnavailableError) as error:
                failures.stopped = error
                break
            except KeyboardInterrupt:
                detector.close()
                console.print(
                    f"{len(kept.by_image)} of {len(images)} images are done. {kept.resume_hint}", markup=False
                )
                raise
    return failures


def _source(detector_options: DetectorOptions, detector: Detector) -> dict[str, str | None]:
    """Return what makes the detections: runtime and device, and the address without a user's name and password."""
    url: dict[str, str | None] = {} if detector_options.url is None else {"url": without_user(detector_options.url)}
    return url | backend_of(detector)._asdict()


def _check_output(output: Path | None, results: Path | None) -> None:
    """Refuse now what couldn't be written at the end."""
    if output is None:
        return
    if output.suffix != ".json":
        raise ParameterError(f"--output {output} must be a FILE.json.")
    if results and output.resolve() == results.resolve():
        raise ParameterError(f"{output} holds the detections themselves: name another --output.")
    make_folder(output.parent)
    if output.is_dir():
        raise ParameterError(f"--output {output} is a folder: name a FILE.json.")


def _report_unmatched_files(
    annotations: Path,
    folder: Path,
    present: list[tuple[AnnotatedImage, Path]],
    missing: list[AnnotatedImage],
    console: Console,
) -> int:
    """Report annotated images that aren't in the folder; return how many images in it aren't annotated."""
    if missing:
        names = ", ".join(image.file_name for image in missing[:NAMES_SHOWN]) + (
            " …" if len(missing) > NAMES_SHOWN else ""
        )
        console.print(
            f"{len(missing)} of the {len(missing) + len(present)} annotated images are not in {folder}, and NOT "
            f"evaluated: {names}",
            markup=False,
        )
    annotated = {file for _, file in present}
    others = sum(file not in annotated for file in image_files(folder))
    if others:
        console.print(f"Images in {folder} that {annotations} doesn't name, left out: {others}.", markup=False)
    return others
