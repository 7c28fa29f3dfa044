"""Where `resnest detect` puts what it found: a list in JSON, lines of JSON, or drawings."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path
from typing import Any

import typer

from resnest_core.card import ModelCard
from resnest_core.closeable import Closeable
from resnest_core.detections import Detections
from resnest_core.drawing import DRAWING_THRESHOLD, draw, encode
from resnest_core.errors import ParameterError
from resnest_core.formats import coco, native
from resnest_core.images import SUFFIXES, load_image

NUMBERS = re.compile(r"\[\n([-+.\de,\s]*)\]")  # a list of numbers in indented JSON: for the eye, on one line
LINE_START = b'{"file": '


@dataclass(frozen=True)
class Result:
    """What was found in a file."""

    file: Path
    image_id: int
    found: Detections
    milliseconds: float

    def native(self, card: ModelCard, masks: str) -> dict[str, Any]:
        """Return the native answer; `file` comes first."""
        answer = native(self.found, card, masks=masks)
        return {"file": str(self.file), **answer, "timings_ms": {"total": self.milliseconds}}


class Output(Closeable, ABC):
    """Takes results in the files' order, one at a time, as they come."""

    score_threshold: float | None = None
    """If the user gives none; None: the model's."""
    card: ModelCard
    """Of the model; there from `begin` on."""
    kept = ""
    """What is said, where a run ends early, of what was done."""

    def left(self, files: list[Path]) -> list[Path]:
        """Return the files that aren't done yet."""
        return files

    def begin(self, card: ModelCard) -> None:
        """Make ready for the results of a detector with this card."""
        self.card = card

    @abstractmethod
    def add(self, result: Result) -> None:
        """Take a result."""

    def finish(self) -> None:
        """Write what is written at the end."""


class List(Output):
    """A list in JSON, in a file or on stdout; written at the end."""

    def __init__(self, path: Path | None, masks: str, *, is_coco: bool) -> None:
        self._path = path
        self._masks = masks
        self._is_coco = is_coco
        self._answers: list[dict[str, Any]] = []
        if path:
            make_folder(path.parent)

    def add(self, result: Result) -> None:
        if self._is_coco:
            self._answers += coco(result.found, self.card, masks=self._masks, image_id=result.image_id)
        else:
            self._answers.append(result.native(self.card, self._masks))

    def finish(self) -> None:
        if self._path:
            save(json.dumps(self._answers).encode(), self._path)
        else:
            text = json.dumps(self._answers, indent=2)
            typer.echo(NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text))


class Lines(Output):
    """An answer a line (JSON Lines), written as it comes; a second run does what isn't there yet.

    A line that a run, killed, left half written is dropped.
    """

    def __init__(self, path: Path, masks: str) -> None:
        self._path = path
        self._masks = masks
        self.kept = f"What was done is in {path}: run the command again for the rest."
        self._done: set[str] = set()
        self._models: set[str] = set()
        self._end = 0  # of the last whole line, in bytes
        self._file: BufferedWriter | None = None
        if path.is_file():
            self._read()
        make_folder(path.parent)

    def left(self, files: list[Path]) -> list[Path]:
        return [file for file in dict.fromkeys(files) if str(file) not in self._done]

    def begin(self, card: ModelCard) -> None:
        super().begin(card)
        if others := self._models - {card.name}:
            raise ParameterError(f"{self._path} has answers of {', '.join(sorted(others))}: name another --output.")
        try:
            self._file = self._path.open("ab")
            self._file.truncate(self._end)
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def add(self, result: Result) -> None:
        assert self._file is not None, "begun"
        try:
            self._file.write(json.dumps(result.native(self.card, self._masks)).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _read(self) -> None:
        try:
            with self._path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    if not line.endswith(b"\n") and (line.startswith(LINE_START) or LINE_START.startswith(line)):
                        return
                    try:
                        answer = json.loads(line)
                        self._done.add(answer["file"])
                        self._models.add(answer["model"])
                    except (ValueError, KeyError, TypeError) as error:
                        raise ParameterError(
                            f"Line {number} of {self._path} is no answer of this command: name another --output."
                        ) from error
                    self._end += len(line)
        except OSError as error:
            raise cannot_write(self._path, error) from error


class Drawings(Output):
    """A drawing of each file in a folder: of the same name, as PNG where it was one, else as JPEG.

    Raises:
        ParameterError: it isn't a folder's name, two drawings would have the same one, or one that of an image.
    """

    score_threshold = DRAWING_THRESHOLD

    def __init__(self, folder: Path, files: list[Path]) -> None:
        if folder.suffix.lower() in SUFFIXES:
            raise ParameterError(f"--output {folder} must be a FILE.json, a FILE.jsonl, or a folder for drawn images.")
        self._paths = {
            file: folder / file.with_suffix(".png" if file.suffix.lower() == ".png" else ".jpg").name for file in files
        }
        path, count = Counter(self._paths.values()).most_common(1)[0]
        if count > 1:
            raise ParameterError(f"{count} images would be drawn to {path}: pass them one folder at a time.")
        if folder.resolve() in {file.resolve().parent for file in files}:
            raise ParameterError(f"The folder {folder} holds the images themselves: name another --output.")
        make_folder(folder)

    def add(self, result: Result) -> None:
        path = self._paths[result.file]
        drawing = draw(load_image(result.file), result.found, self.card, score_threshold=0)
        save(encode(drawing, "image/png" if path.suffix == ".png" else "image/jpeg"), path)


def choose_output(path: Path | None, files: list[Path], masks: str, *, is_coco: bool) -> Output:
    """Return the output that `--output` names by its suffix.

    Raises:
        ParameterError: it can't be one.
    """
    if path is None or path.suffix == ".json":
        return List(path, masks, is_coco=is_coco)
    if path.suffix != ".jsonl":
        return Drawings(path, files)
    if is_coco:
        raise ParameterError("COCO's results are one list: name a FILE.json as --output, or leave out --format.")
    return Lines(path, masks)


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ParameterError(f"The folder {folder} can't be made ({error.strerror}): name another --output.") from error


def save(data: bytes, path: Path) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> ParameterError:
    return ParameterError(f"{path} can't be written ({error.strerror}): name another --output.")
