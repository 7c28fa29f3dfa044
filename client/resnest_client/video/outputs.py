"""What becomes of a video's detections: JSON Lines, or an annotated video."""

from __future__ import annotations

import json
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from resnest_client.outputs import AnswerWriter, cannot_write, make_folder
from resnest_client.video.reader import Frame, VideoReader
from resnest_client.video.writer import CODECS, VideoWriter
from resnest_core.card import ModelCard
from resnest_core.closeable import Closeable
from resnest_core.colors import DRAWING_THRESHOLD
from resnest_core.detections import Detections
from resnest_core.drawing import draw
from resnest_core.errors import ParameterError

if TYPE_CHECKING:
    import av

# Where each format has its objects, and what it calls an object's number.
TRACKS = {
    "native": ("detections", "track"),
    "roboflow": ("predictions", "tracker_id"),
    "ultralytics": ("results", "track_id"),
}


class VideoOutput(Closeable, ABC):
    """Takes the frames of a video in order, as they come."""

    score_threshold: float | None = None
    """If the user gives none; None: the model's."""
    takes_every_frame = False
    """Whether it also takes frames in which nothing was detected."""
    warning: str | None = None
    """What it had to leave out."""

    @abstractmethod
    def add(self, frame: Frame, found: Detections | None, *, is_new: bool) -> None:
        """Take a frame with the detections in it, or with the last ones where `is_new` is false."""

    def add_audio(self, packet: av.Packet[Any]) -> None:
        """Take a packet of the audio."""


class VideoLines(VideoOutput):
    """An object per frame, in a file or on stdout: `file`, `frame`, `time_s`, `model` and the answer.

    Raises:
        ParameterError: answers of the format are lists, or the file is there already.
    """

    def __init__(self, path: Path | None, writer: AnswerWriter, card: ModelCard) -> None:
        if writer.format.is_list:
            raise ParameterError(f"Answers in the format {writer.name} are one list, not lines: leave out --format.")
        self._path = path
        self._writer = writer
        self._card = card
        self._file: TextIO = sys.stdout
        if path is not None:
            make_folder(path.parent)
            try:
                self._file = path.open("x")
            except FileExistsError as error:
                raise exists(path) from error
            except OSError as error:
                raise cannot_write(path, error) from error

    def add(self, frame: Frame, found: Detections | None, *, is_new: bool) -> None:
        if not is_new or found is None:
            return
        answer = self._writer.format.make(found, self._card, masks=self._writer.masks)
        if found.track_ids is not None:
            rows, key = TRACKS[self._writer.name]
            objects = (answer["images"][0] if "images" in answer else answer)[rows]
            for one, track in zip(objects, found.track_ids.tolist(), strict=True):
                if track >= 0:
                    one[key] = track
        line = {"file": frame.source, "frame": frame.index, "time_s": frame.time_s, "model": self._card.name, **answer}
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        except OSError as error:
            raise cannot_write(self._path or Path("stdout"), error) from error

    def close(self) -> None:
        if self._path is not None:
            self._file.close()


class AnnotatedVideo(VideoOutput):
    """A video with the detections drawn in, and the source's audio.

    Raises:
        ParameterError: the name's ending is none of a video that is written here, or the file is there already.
    """

    score_threshold = DRAWING_THRESHOLD
    takes_every_frame = True

    def __init__(self, path: Path, reader: VideoReader, card: ModelCard) -> None:
        if path.exists():
            raise exists(path)
        make_folder(path.parent)
        self._writer = VideoWriter(path, reader)
        self._card = card

    def add(self, frame: Frame, found: Detections | None, *, is_new: bool) -> None:  # noqa: ARG002
        pixels = frame.pixels()
        if found is not None and found.image_size_hw == pixels.shape[:2]:
            # By class: a colour by overlap would change from frame to frame.
            pixels = draw(pixels, found, self._card, score_threshold=0, color_by="class")
        self._writer.add(frame, pixels)
        self.warning = self._writer.warning

    def add_audio(self, packet: av.Packet[Any]) -> None:
        self._writer.add_audio(packet)

    def close(self) -> None:
        self._writer.close()


def choose_video_output(path: Path | None, reader: VideoReader, writer: AnswerWriter, card: ModelCard) -> VideoOutput:
    """Return the output that `--output` names by its suffix.

    Raises:
        ParameterError: it can't be one.
    """
    if path is None or path.suffix.lower() == ".jsonl":
        return VideoLines(path, writer, card)
    if path.suffix.lower() in CODECS:
        return AnnotatedVideo(path, reader, card)
    raise ParameterError(
        f"--output {path} of a video must be a FILE.jsonl, or an annotated video: FILE{', FILE'.join(CODECS)}."
    )


def exists(path: Path) -> ParameterError:
    return ParameterError(f"{path} is there already: remove it, or name another --output.")
