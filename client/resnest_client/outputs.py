"""Outputs of `resnest detect`: a JSON list, JSON Lines, or drawn images."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path
from typing import Any

import numpy as np
import typer

from resnest_client.drawing_paths import PNG, drawing_paths
from resnest_core.card import ModelCard
from resnest_core.closeable import Closeable
from resnest_core.colors import DRAWING_THRESHOLD
from resnest_core.detections import Detections
from resnest_core.drawing import draw, encode
from resnest_core.errors import ParameterError
from resnest_core.evaluation import ImageId
from resnest_core.formats import FORMATS, AnswerFormat
from resnest_core.image_folder import SUFFIXES
from resnest_core.images import load_image

NUMBERS = re.compile(r"\[\n([-+.\de,\s]*)\]")  # a list of numbers in indented JSON, which is printed on one line
FOLDER = "folder"  # in which relative names of files were given
LINE_START = b'{"file": '


@dataclass(frozen=True)
class ImageResult:
    """The detections of one image file."""

    file: Path
    image_id: ImageId
    detections: Detections
    milliseconds: float


@dataclass(frozen=True)
class AnswerWriter:
    """Makes answers in one format, and with one form of masks."""

    name: str
    format: AnswerFormat
    masks: str

    @classmethod
    def named(cls, name: str, masks: str) -> AnswerWriter:
        """Return the writer of a format.

        Raises:
            ParameterError: there is no such format.
        """
        if name not in FORMATS:
            raise ParameterError(f"--format must be one of {', '.join(FORMATS)}, not {name}.")
        return cls(name, FORMATS[name], masks)

    def answer(self, result: ImageResult, card: ModelCard) -> Any:
        """Return the answer of an image: a list, or an object that begins with `file` and `model`."""
        answer = self.format.make(result.detections, card, masks=self.masks, image_id=result.image_id)
        if self.format.add_timings:
            self.format.add_timings(answer, {"total": result.milliseconds})
        return answer if self.format.is_list else {"file": str(result.file), "model": card.name, **answer}

    def keys(self, card: ModelCard) -> set[str]:
        """Return the keys that every answer of the format has, if it is an object."""
        nothing = Detections(
            boxes_xyxy=np.zeros((0, 4), np.float32),
            scores=np.zeros(0, np.float32),
            labels=np.zeros(0, np.int64),
            masks=None,
            image_size_hw=(1, 1),
        )
        return {"file", "model", *self.format.make(nothing, card, masks="none")}


class Output(Closeable, ABC):
    """Takes results in the files' order, one at a time, as they come."""

    score_threshold: float | None = None
    """If the user gives none; None: the model's."""
    card: ModelCard
    """Of the model; set by `begin`."""
    needs_image_ids = False
    """Whether the answers have them."""
    resume_hint = ""
    """Appended to the error of a run that ends early: where the finished answers are."""

    def remaining(self, files: list[Path]) -> list[Path]:
        """Return the files that have no answer yet."""
        return files

    def begin(self, card: ModelCard) -> None:
        """Prepare for the results of a detector with this card."""
        self.card = card

    @abstractmethod
    def add(self, result: ImageResult) -> None:
        """Take a result."""

    def finish(self) -> None:
        """Write what can only be written once all results are there."""


class JsonList(Output):
    """One JSON list, in a file or on stdout; written at the end."""

    def __init__(self, path: Path | None, writer: AnswerWriter) -> None:
        self._path = path
        self._writer = writer
        self._answers: list[Any] = []
        self.needs_image_ids = writer.format.is_list
        if path:
            make_folder(path.parent)

    def add(self, result: ImageResult) -> None:
        answer = self._writer.answer(result, self.card)
        self._answers += answer if self._writer.format.is_list else [answer]

    def finish(self) -> None:
        if self._path:
            save(json.dumps(self._answers).encode(), self._path)
        else:
            text = json.dumps(self._answers, indent=2)
            typer.echo(NUMBERS.sub(lambda match: f"[{' '.join(match[1].split())}]", text))


class JsonLines(Output):
    """One answer per line (JSON Lines), written as it comes; a second run adds the images that have none.

    `FILE.jsonl.source.json` beside it says which checkpoint and format the lines are of: a model of the same name may
    have other weights by the second run. An incomplete last line, of a run that was killed, is dropped.

    Raises:
        ParameterError: answers of the format are lists, or the file holds something else.
    """

    def __init__(self, path: Path, writer: AnswerWriter) -> None:
        if writer.format.is_list:
            raise ParameterError(
                f"Answers in the format {writer.name} are one list, not lines: name a FILE.json as --output, or "
                "leave out --format."
            )
        self._path = path
        self._source_path = path.with_name(f"{path.name}.source.json")
        self._writer = writer
        self.resume_hint = f"What was done is in {path}: run the command again for the rest."
        self._done: set[str] = set()
        self._models: set[str] = set()
        self._shared_keys: set[str] | None = None
        self._end = 0  # of the last whole line, in bytes
        self._file: BufferedWriter | None = None
        if path.is_file():
            self._read()
        make_folder(path.parent)

    def remaining(self, files: list[Path]) -> list[Path]:
        left = [file for file in dict.fromkeys(files) if str(file) not in self._done]
        self._refuse_other_folder([file for file in files if str(file) in self._done and not file.is_absolute()])
        return left

    def begin(self, card: ModelCard) -> None:
        super().begin(card)
        source = {
            "model": card.name,
            "checkpoint_sha256": card.checkpoint_sha256,
            "precision": card.precision,
            "format": self._writer.name,
        }
        self._refuse_other_answers(source)
        if not self._done:
            save(json.dumps(source | {FOLDER: str(Path.cwd())}).encode(), self._source_path)
        try:
            self._file = self._path.open("ab")
            self._file.truncate(self._end)
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def add(self, result: ImageResult) -> None:
        assert self._file is not None, "begun"
        try:
            self._file.write(json.dumps(self._writer.answer(result, self.card)).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _refuse_other_answers(self, source: dict[str, str]) -> None:
        """Raise ParameterError where the file's lines are of another model, other weights, or in another format."""
        if others := self._models - {source["model"]}:
            raise ParameterError(f"{self._path} has answers of {', '.join(sorted(others))}: name another --output.")
        if self._shared_keys is None:
            return
        if not self._shared_keys >= self._writer.keys(self.card):
            raise ParameterError(f"{self._path} has answers in another format: name another --output.")
        before = self._source()
        if before is None:
            return
        before.pop(FOLDER, None)
        if before != source:
            raise ParameterError(
                f"{self._path} has answers of another checkpoint, precision or format of {source['model']}: "
                "name another --output."
            )

    def _refuse_other_folder(self, done: list[Path]) -> None:
        """Raise ParameterError where a name that has a line is now that of another file, in another folder."""
        before = self._source() if done else None
        if before is None or FOLDER not in before:
            return
        for file in done:
            first = Path(before[FOLDER]) / file
            if first.exists() and file.exists() and not first.samefile(file):
                raise ParameterError(
                    f"{self._path} has an answer for {first}, which is another file than this {file}: name another "
                    "--output, or full paths."
                )

    def _source(self) -> dict[str, str] | None:
        """Return what the file beside says of the lines; None where there is none.

        Raises:
            ParameterError: it can't be read.
        """
        if not self._source_path.exists():
            return None
        try:
            return {str(key): str(value) for key, value in json.loads(self._source_path.read_bytes()).items()}
        except (OSError, ValueError, AttributeError) as error:
            raise ParameterError(
                f"{self._source_path}, which says what the answers are of, can't be read: name another --output."
            ) from error

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
                        keys = set(answer)
                    except (ValueError, KeyError, TypeError) as error:
                        raise ParameterError(
                            f"Line {number} of {self._path} is no answer of this command: name another --output."
                        ) from error
                    self._shared_keys = keys if self._shared_keys is None else self._shared_keys & keys
                    self._end += len(line)
        except OSError as error:
            raise cannot_write(self._path, error) from error


class DrawingFolder(Output):
    """A drawing of each file in a folder, as PNG where the file is one by its name, else as JPEG.

    Raises:
        ParameterError: it isn't a folder's name, or a drawing would replace an image.
    """

    score_threshold = DRAWING_THRESHOLD

    def __init__(self, folder: Path, files: list[Path]) -> None:
        if folder.suffix.lower() in SUFFIXES:
            raise ParameterError(f"--output {folder} must be a FILE.json, a FILE.jsonl, or a folder for drawn images.")
        self._paths = drawing_paths(files, folder)
        for parent in dict.fromkeys(path.parent for path in self._paths.values()):
            make_folder(parent)

    def add(self, result: ImageResult) -> None:
        path = self._paths[result.file]
        drawing = draw(load_image(result.file), result.detections, self.card, score_threshold=0)
        save(encode(drawing, "image/png" if path.suffix.lower() == PNG else "image/jpeg"), path)


def choose_output(path: Path | None, files: list[Path], answer_format: str, masks: str) -> Output:
    """Return the output that `--output` names by its suffix.

    Args:
        path: the value of `--output`; None: stdout.
        files: the images.
        answer_format: one of FORMATS.
        masks: form of the masks.

    Raises:
        ParameterError: it can't be one, or there is no such format.
    """
    writer = AnswerWriter.named(answer_format, masks)
    if path is None or path.suffix == ".json":
        return JsonList(path, writer)
    if path.suffix == ".jsonl":
        return JsonLines(path, writer)
    return DrawingFolder(path, files)


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
