"""A worker of a bulk run: it holds one detector, and detects in the images of one part after the other."""

from __future__ import annotations

import json
import os
import platform
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnest_client.bulk import storage
from resnest_client.bulk.output_folder import OutputFolder
from resnest_client.bulk.results import ImageName, ResultFormat
from resnest_client.bulk.sources import Piece
from resnest_client.bulk.tables import choose_columns, open_table, table_rows
from resnest_core.card import ModelCard
from resnest_core.detections import Detections
from resnest_core.errors import ImageError, ModelError, NotAnImageError, ResNeStError, RuntimeUnavailableError
from resnest_core.images import read_file
from resnest_core.repository import REPOSITORY_VARIABLE, load_detector
from resnest_core.threads import work_in_callers_thread

READERS = 4
READ_AHEAD = 16  # encoded images in memory, besides those that `detect_many` has


@dataclass(frozen=True)
class Job:
    """What all workers of a run need to know."""

    output: str
    format: ResultFormat
    card: ModelCard
    model: str
    repository: str
    repository_is_named: bool
    runtime: str | None
    device: str | None
    threads: int
    score_threshold: float | None
    image_column: str | None
    name_column: str | None
    local_folders: tuple[str, ...]
    """Which every node must see."""


class PartDetector:
    """Called by Ray Data with one part at a time; writes its results, and returns how many images there were.

    Errors of this project are returned as a sentence in `problem`, since Ray would print them with their traces.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._problem = ""
        self._node = platform.node()
        self._output = OutputFolder(job.output, job.format.suffix)
        work_in_callers_thread()
        try:
            self._check_folders()
            self._load()
        except ResNeStError as error:
            self._problem = str(error)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Detect in a part: `part` is its number, `pieces` its images as JSON."""
        images, failed, problem, fatal = 0, 0, self._problem, bool(self._problem)
        if not fatal:
            pieces = [Piece(*piece) for piece in json.loads(batch["pieces"][0])]
            try:
                images, failed = self._detect(int(batch["part"][0]), pieces)
            except ResNeStError as error:
                problem = str(error)
        return {
            "part": [int(batch["part"][0])],
            "images": [images],
            "failed": [failed],
            "problem": [problem and f"On node {self._node}: {problem}"],
            "fatal": [fatal],
        }

    def _check_folders(self) -> None:
        for folder in (*self._job.local_folders, *([] if storage.is_remote(self._job.output) else [self._job.output])):
            if not Path(folder).exists():
                raise RuntimeUnavailableError(
                    f"{folder} isn't there: every node must see the sources and the output at the same path, or they "
                    "must be in an object store."
                )

    def _load(self) -> None:
        job = self._job
        repository = None if self._has_own_repository else job.repository
        try:
            self._detector = load_detector(
                job.model, runtime=job.runtime, device=job.device, threads=job.threads, repository=repository
            )
        except ModelError as error:
            raise RuntimeUnavailableError(
                f"{error} Copy the model repository to every node, to the same path or one that {REPOSITORY_VARIABLE} "
                "names there."
            ) from error
        if self._detector.card != job.card:
            raise RuntimeUnavailableError(
                f"The model {job.card.name} is another one than where the command runs: copy the same model repository "
                "to every node."
            )

    @property
    def _has_own_repository(self) -> bool:
        return not self._job.repository_is_named and bool(os.environ.get(REPOSITORY_VARIABLE))

    def _detect(self, part: int, pieces: Sequence[Piece]) -> tuple[int, int]:
        """Write the results of a part; return how many images have some, and how many couldn't be used."""
        job = self._job
        names: list[ImageName] = []
        found: dict[int, dict[str, Any]] = {}
        errors: dict[int, str] = {}
        sent: list[int] = []

        def readable() -> Iterator[bytes]:
            for name, data in _read_ahead(self._images(pieces)):
                names.append(name)
                if isinstance(data, ImageError):
                    errors[len(names) - 1] = str(data)
                else:
                    sent.append(len(names) - 1)
                    yield data

        results = self._detector.detect_many(
            readable(), on_error="yield", score_threshold=job.score_threshold, masks=job.format.masks != "none"
        )
        for place, result in enumerate(results):
            index = sent[place]
            if isinstance(result, Detections):
                found[index] = job.format.record(names[index], result, job.card)
            elif isinstance(result, ImageError):
                errors[index] = str(result)
            else:
                raise result
        self._write_errors(part, [(names[index], errors[index]) for index in sorted(errors)])
        data = job.format.encode([found[index] for index in sorted(found)], job.card)
        storage.write(self._output.result_path(part), data)  # last: a part with results is done
        return len(found), len(errors)

    def _write_errors(self, part: int, errors: Sequence[tuple[ImageName, str]]) -> None:
        path = self._output.errors_path(part)
        if errors:
            lines = (json.dumps({**name._asdict(), "error": error}) + "\n" for name, error in errors)
            storage.write(path, "".join(lines).encode())
        else:
            storage.delete(path)  # of a first try, on a node that couldn't read what this one can

    def _images(self, pieces: Sequence[Piece]) -> Iterator[tuple[ImageName, bytes | str | None]]:
        """Yield each image's name, and its bytes or the address to read it from."""
        for piece in pieces:
            if piece.row_group is None:
                yield ImageName(printable(piece.name), printable(piece.address)), piece.address
                continue
            with open_table(piece.address) as table:
                columns = choose_columns(
                    table.schema_arrow, piece.address, self._job.image_column, self._job.name_column
                )
                for row in table_rows(table, columns, piece.row_group, piece.start, piece.rows, piece.address):
                    address = row.image if columns.is_address and isinstance(row.image, str) else None
                    name = row.name or address or f"{piece.name}#{row.row}"
                    yield ImageName(name, printable(piece.address), row.row), row.image


def printable(name: str) -> str:
    """Return a file's name as text that UTF-8 can hold: other bytes become `\\xff`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _read_ahead(
    images: Iterator[tuple[ImageName, bytes | str | None]],
) -> Iterator[tuple[ImageName, bytes | ImageError]]:
    """Yield names and bytes, or why there are none; a few are read at a time."""
    pending: deque[tuple[ImageName, Future[bytes | ImageError]]] = deque()
    with ThreadPoolExecutor(READERS) as pool:
        try:
            for name, image in images:
                pending.append((name, pool.submit(_bytes_of, image)))
                if len(pending) >= READ_AHEAD:
                    first, data = pending.popleft()
                    yield first, data.result()
            for first, data in pending:
                yield first, data.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _bytes_of(image: bytes | str | None) -> bytes | ImageError:
    """Return an image's bytes, or why there are none.

    Raises:
        ResNeStError: the object store doesn't answer; a later run may read the image.
    """
    if image is None:
        return NotAnImageError("The row holds no image.")
    if isinstance(image, bytes):
        return image
    try:
        if not storage.is_remote(image):
            return read_file(image)
        with storage.readable(image):
            try:
                return storage.read(storage.checked(image))
            except FileNotFoundError:
                return NotAnImageError(f"There is no {image} any more.")
    except ImageError as error:
        return error
