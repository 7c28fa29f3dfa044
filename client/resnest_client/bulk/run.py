"""Detects in all images of the sources, on a Ray cluster."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from resnest_client.bulk import storage
from resnest_client.bulk.cluster import LOCAL, Share, check_address, connected, share
from resnest_client.bulk.output_folder import OutputFolder, Part, in_parts
from resnest_client.bulk.results import ResultFormat
from resnest_client.bulk.sources import find_inputs, pieces_of
from resnest_client.bulk.worker import Job, PartDetector
from resnest_client.progress import progress_bar
from resnest_core.card import read_card
from resnest_core.detector import checked_threshold
from resnest_core.errors import MissingExtraError, ModelNotFoundError, ParameterError, RuntimeUnavailableError
from resnest_core.repository import default_model, find_model, find_repository, installed_models
from resnest_core.runtimes import RUNTIMES, devices, preferred_runtime

PART_SIZE = 128  # images: what a killed worker loses, and the images of a file
TRIES = 8  # of a part whose worker dies
MOST_REFUSED = 16  # parts that can't be read, before any other was finished


class BulkResult(NamedTuple):
    """What a run did: images with results, images that couldn't be used, and images that were done before it."""

    images: int
    failed: int
    done_before: int


def detect_dataset(
    sources: Sequence[str],
    output: str,
    *,
    address: str = LOCAL,
    model: str | None = None,
    runtime: str | None = None,
    device: str | None = None,
    repository: Path | None = None,
    score_threshold: float | None = None,
    answer_format: str | None = None,
    masks: str = "rle",
    image_column: str | None = None,
    name_column: str | None = None,
    workers: int | None = None,
    threads: int | None = None,
    part_size: int = PART_SIZE,
    console: Console | None = None,
) -> BulkResult:
    """Detect in the images of folders, patterns, Parquet files and object stores, and write the results to a folder.

    A run that ended early is continued by the same call. docs/bulk.md describes the files.

    Args:
        sources: folders, patterns, image files or Parquet files: paths, `s3://…` or `gs://…`.
        output: a folder: a path that all nodes see, `s3://…` or `gs://…`.
        address: of a Ray cluster, `host:port` or `auto`; `local`: one is started, and stopped at the end.
        model: None: the repository's default.
        runtime: as for `load_detector`, as are `device` and `repository`.
        device: `cuda`: each worker takes a GPU.
        repository: where the model is on every node; None: see `find_repository`.
        score_threshold: as for `detect`.
        answer_format: one of FORMATS: JSON Lines; None: Parquet.
        masks: form of the masks, or `none`.
        image_column: of Parquet files: bytes, or addresses; None: found by types and names.
        name_column: of Parquet files; None: found by names.
        workers: detectors at a time; None: as many as the cluster has room for.
        threads: CPUs of a worker; None: up to 4.
        part_size: images of a file of results at most.
        console: is told of progress; None: nobody is.

    Raises:
        ParameterError: an argument can't be used, or the output folder is one of another run.
        ModelError: there is no such model.
        UnreachableError: there is no such cluster, or the object store refuses or doesn't answer.
        RuntimeUnavailableError: workers can't load the model, or died again and again.
        MissingExtraError: Ray or pyarrow isn't installed.
    """
    console = console or Console(quiet=True)
    check_address(address)
    _check_extra()
    for name, value in (("--concurrency", workers), ("--threads", threads), ("part_size", part_size)):
        if value is not None and value < 1:
            raise ParameterError(f"{name} must be at least 1, not {value}.")
    result_format = ResultFormat(answer_format, masks)
    on_gpu = _is_on_gpu(runtime, device)
    where = find_repository(repository).absolute()
    model = model or _default(where)
    path = Path(model).absolute() if model.endswith(".onnx") else find_model(model, where)
    card = read_card(path)
    checked_threshold(score_threshold, card)
    output, roots = storage.checked(output), [storage.checked(source) for source in sources]
    _check_apart(output, roots)
    folder = OutputFolder(output, result_format.suffix)
    inputs = find_inputs(sources)
    if inputs.left_out:
        console.print(f"{inputs.left_out} files that are no images are left out.")
    folder.begin(
        {
            "model": card.name,
            "checkpoint_sha256": card.checkpoint_sha256,
            "precision": card.precision,
            "sources": roots,
            "runtime": runtime,
            "device": device,
            "score_threshold": score_threshold,
            **asdict(result_format),
            "image_column": image_column,
            "name_column": name_column,
            "project_version": card.project_version,
        }
    )
    parts = list(folder.planned())
    known = {(piece.address, piece.row_group) for part in parts for piece in part.pieces}
    pieces = list(pieces_of(inputs, known, part_size, image_column, name_column))
    if not pieces and not parts:
        raise ParameterError("The sources hold no images: name others.")
    done = folder.done()
    done_before = sum(part.rows for part in parts if part.number in done)
    if done_before:
        total = sum(part.rows for part in parts) + sum(piece.rows for piece in pieces)
        console.print(f"{done_before} of {total} images are done already.")
    if not pieces and all(part.number in done for part in parts):
        return BulkResult(0, 0, done_before)
    with connected(address):
        shared = share(workers, threads, on_gpu)
        if pieces:
            images = sum(piece.rows for piece in pieces)
            size = min(part_size, max(4, -(-images // (8 * shared.workers))))
            added = list(in_parts(pieces, size, len(parts)))
            folder.add_to_plan(added)
            parts += added
        job = Job(
            output=output,
            format=result_format,
            card=card,
            model=str(path) if model.endswith(".onnx") else model,
            repository=str(where),
            repository_is_named=repository is not None,
            runtime=runtime,
            device=device,
            threads=shared.threads,
            score_threshold=score_threshold,
            image_column=image_column,
            name_column=name_column,
            local_folders=tuple(r for r in roots if not storage.is_remote(r) and not storage.WILD.search(r)),
        )
        images, failed = _work(job, [part for part in parts if part.number not in done], shared, console)
    return BulkResult(images, failed, done_before)


def _work(job: Job, parts: Sequence[Part], shared: Share, console: Console) -> tuple[int, int]:
    """Let workers detect in the parts; return how many images have results, and how many couldn't be used."""
    import ray
    from ray.exceptions import RayActorError, RayError
    from ray.util.annotations import RayDeprecationWarning

    context = ray.data.DataContext.get_current()
    bars, context.enable_progress_bars = context.enable_progress_bars, False
    rows = [{"part": part.number, "pieces": json.dumps(part.pieces)} for part in parts]
    sizes = {part.number: part.rows for part in parts}
    workers = min(shared.workers, len(parts))
    with warnings.catch_warnings():
        # Ray would try without end a part that kills its worker. The limit has no other name before Ray 2.64.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        results = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            PartDetector,
            fn_constructor_args=(job,),
            batch_size=1,
            num_cpus=shared.threads,
            num_gpus=shared.gpus or None,
            compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
            max_restarts=-1,
            max_task_retries=TRIES - 1,
        )
    images, failed, finished = 0, 0, 0
    refused: list[str] = []
    try:
        with progress_bar(console) as progress:
            task = progress.add_task("Detecting", total=sum(sizes.values()))
            for row in results.iter_rows():
                if row["fatal"]:
                    raise RuntimeUnavailableError(str(row["problem"]))
                if row["problem"]:
                    refused.append(str(row["problem"]))
                    if not finished and len(refused) >= MOST_REFUSED:
                        break
                    continue
                finished += 1
                images += int(row["images"])
                failed += int(row["failed"])
                progress.update(task, advance=sizes[int(row["part"])])
    except (RayActorError, RayError) as error:
        if "No module named 'resnest" in str(error):
            raise RuntimeUnavailableError(
                "A node of the Ray cluster lacks this package: install resnest-serving there, in the same version."
            ) from error
        if isinstance(error, RayActorError) or isinstance(error.__cause__, RayActorError):
            raise RuntimeUnavailableError(
                f"Workers died {TRIES} times at the same images, perhaps for lack of memory: try fewer at a time with "
                "--concurrency. What was done is kept: run the command again for the rest."
            ) from error
        raise
    finally:
        context.enable_progress_bars = bars
    if refused:
        raise RuntimeUnavailableError(
            f"{len(refused)} parts couldn't be done. {refused[0]} Run the command again for the rest."
        )
    return images, failed


def _check_extra() -> None:
    from importlib.util import find_spec

    for package in ("ray", "pyarrow", "fsspec"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "ray")


def _is_on_gpu(runtime: str | None, device: str | None) -> bool:
    if device is not None and device not in devices():
        raise ParameterError(f"There is no device {device!r}: use one of {', '.join(devices())}.")
    name = runtime or preferred_runtime(device).name
    if name not in RUNTIMES:
        raise ParameterError(f"There is no runtime {name!r}: use one of {', '.join(RUNTIMES)}.")
    return (device or RUNTIMES[name].devices[0]) != "cpu"


def _default(repository: Path) -> str:
    names = installed_models(repository)
    if not names:
        raise ModelNotFoundError(f"There are no models in {repository}: `resnest export NAME` makes one.")
    return default_model(names)


def _check_apart(output: str, roots: Sequence[str]) -> None:
    """Refuse an output folder within a source: its files would be sources of the next run."""
    for root in roots:
        if f"{output}/".startswith(f"{root}/"):
            raise ParameterError(f"The output {output} is in the source {root}: name a folder elsewhere as --output.")
