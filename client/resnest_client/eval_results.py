"""The detections of `resnest eval`, kept as they come, so that a second run does the rest."""

from __future__ import annotations

import json
from collections.abc import Iterable
from io import BufferedWriter
from pathlib import Path
from typing import Any

from resnest_core.closeable import Closeable
from resnest_core.errors import ParameterError
from resnest_core.evaluation import AnnotatedImage, ClassMatch, ImageId

HEADER = "resnest_eval"
HEADER_START = f'{{"{HEADER}": '.encode()
Rows = list[dict[str, Any]]


class KeptResults(Closeable):
    """Detections by image, as COCO's results; with a path, also in a file there.

    The file is JSON Lines: what made the detections, then a line per image. A line that a run, killed, left half
    written is dropped. `finish` writes COCO's one list beside it, `FILE.json` beside `FILE.jsonl`. Category ids are the
    card's in the former, so that other annotations of the same images may follow, and the annotations' in the latter.

    Raises:
        ParameterError: the path isn't one of JSON Lines.
    """

    def __init__(self, path: Path | None) -> None:
        if path is not None and path.suffix != ".jsonl":
            raise ParameterError(f"--results {path} must be a FILE.jsonl: a line is written for each image.")
        self.path = path
        self.list_path = path.with_suffix(".json") if path else None
        self.by_image: dict[ImageId, Rows] = {}
        self._file: BufferedWriter | None = None

    @property
    def resume_hint(self) -> str:
        """Appended to the error of a run that ends early: where the finished detections are."""
        if self.path is None:
            return "Nothing is kept for a second run: --results FILE.jsonl would."
        return f"What was done is in {self.path}: run the command again for the rest."

    def begin(self, made_by: dict[str, Any], images: Iterable[AnnotatedImage]) -> None:
        """Take what the file has of these images, and make ready for more.

        Args:
            made_by: what makes the detections; detections of something else aren't mixed with them.
            images: those that are evaluated; what is there of others stays in the file.

        Raises:
            ParameterError: the file is something else's, or can't be written.
        """
        if self.path is None:
            return
        header = json.dumps({HEADER: made_by}).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lines = self.path.read_bytes().splitlines(keepends=True) if self.path.is_file() else []
            if lines and not lines[-1].endswith(b"\n") and (len(lines) > 1 or _torn_header(lines[0])):
                lines.pop()
            if lines:
                self._read(lines, header, {(image.id, image.file_name) for image in images})
            self._file = self.path.open("ab")
            self._file.truncate(sum(map(len, lines)))
            if not lines:
                self._write(header)
        except OSError as error:
            raise _cannot_write(self.path, error) from error

    def add(self, image: AnnotatedImage, rows: Rows) -> None:
        """Keep the detections of an image.

        Raises:
            ParameterError: the file can't be written.
        """
        self.by_image[image.id] = rows
        self._write(
            json.dumps({"image_id": image.id, "file_name": image.file_name, "detections": rows}).encode() + b"\n"
        )

    def finish(self, classes: ClassMatch) -> None:
        """Write COCO's list, which pycocotools' `loadRes` reads, of the classes that the annotations have.

        Raises:
            ParameterError: it can't be written.
        """
        if self.list_path:
            try:
                rows = (row for found in self.by_image.values() for row in found)
                self.list_path.write_text(json.dumps(list(classes.with_ids_of_file(rows))))
            except OSError as error:
                raise _cannot_write(self.list_path, error) from error

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _read(self, lines: list[bytes], header: bytes, images: set[tuple[ImageId, str]]) -> None:
        if not lines[0].startswith(HEADER_START):
            raise ParameterError(f"{self.path} is no file of this command's: name another --results.")
        if lines[0] != header:
            raise ParameterError(
                f"{self.path} has detections of another model, precision or runtime: name another --results."
            )
        for number, line in enumerate(lines[1:], 2):
            try:
                one = json.loads(line)
                if (one["image_id"], one["file_name"]) in images:
                    self.by_image[one["image_id"]] = list(one["detections"])
            except (ValueError, KeyError, TypeError) as error:
                raise ParameterError(
                    f"Line {number} of {self.path} holds no detections: name another --results."
                ) from error

    def _write(self, line: bytes) -> None:
        if self._file is None:
            return
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            raise _cannot_write(self._file.name, error) from error


def _torn_header(line: bytes) -> bool:
    return line.startswith(HEADER_START) or HEADER_START.startswith(line)


def _cannot_write(path: object, error: OSError) -> ParameterError:
    return ParameterError(f"{path} can't be written ({error.strerror}): name another --results.")
