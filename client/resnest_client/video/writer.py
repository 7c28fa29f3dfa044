"""Writes an annotated video: the source's times and audio, with new pictures."""

from __future__ import annotations

import contextlib
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from resnest_client.video.reader import Frame, VideoReader
from resnest_core.closeable import Closeable
from resnest_core.errors import ParameterError
from resnest_core.images import Pixels

if TYPE_CHECKING:
    import av

CODECS = {".mp4": "libx264", ".mov": "libx264", ".m4v": "libx264", ".mkv": "libx264", ".webm": "libvpx-vp9"}
OPTIONS = {
    "libx264": {"crf": "20", "preset": "veryfast"},
    "libvpx-vp9": {"crf": "30", "b": "0", "deadline": "realtime"},
}
TIME_BASE = Fraction(1, 90_000)  # fine enough for any rate of frames


class VideoWriter(Closeable):
    """A video that is written frame by frame, and can be played once it is closed.

    `warning` says why the audio isn't in it; None: it is, or there was none.

    Raises:
        ParameterError: the name's ending is no video's that is written here, or the file can't be written.
    """

    def __init__(self, path: Path, reader: VideoReader) -> None:
        if path.suffix.lower() not in CODECS:
            raise ParameterError(f"An annotated video is written as {', '.join(CODECS)}: {path.name} is none.")
        self.path = path
        self.warning: str | None = None
        self._reader = reader
        self._container: Any = None
        self._video: Any = None
        self._audio: Any = None
        self._size: tuple[int, int] | None = None  # width and height of the first frame, even
        self._offset_s: float | None = None  # of the first frame that is written
        self._waiting: list[av.Packet[Any]] = []  # audio before the first frame

    def add(self, frame: Frame, pixels: Pixels) -> None:
        """Write a frame's picture, RGB (H, W, 3), at its time."""
        import av

        if self._container is None:
            self._begin(frame, pixels)
        assert self._size is not None and self._offset_s is not None, "begun"
        picture = av.VideoFrame.from_ndarray(fitted(pixels, self._size), format="rgb24")
        picture.time_base = TIME_BASE
        picture.pts = round((frame.time_s - self._offset_s) / TIME_BASE)
        self._container.mux(self._video.encode(picture))

    def add_audio(self, packet: av.Packet[Any]) -> None:
        """Copy a packet of the audio."""
        if packet.pts is None or packet.time_base is None:
            return
        if self._container is None:
            self._waiting.append(packet)
            return
        if self._audio is None or self._offset_s is None:
            return
        offset = round(self._offset_s / packet.time_base)
        if self._offset_s > 0 and packet.pts < offset:
            return
        packet.pts -= offset
        packet.dts = None if packet.dts is None else packet.dts - offset
        packet.stream = self._audio
        self._container.mux(packet)

    def close(self) -> None:
        """Write what the encoder still holds, and the end of the file."""
        if self._container is None:
            return
        container, self._container = self._container, None
        with contextlib.closing(container):
            container.mux(self._video.encode(None))

    def _begin(self, frame: Frame, pixels: Pixels) -> None:
        height, width = pixels.shape[:2]
        self._size = width + width % 2, height + height % 2  # H.264's colours have half the size
        self._offset_s = frame.time_s
        try:
            self._open(with_audio=self._reader.audio is not None)
        except ValueError as error:
            self.path.unlink(missing_ok=True)
            self.warning = f"The audio can't be copied into {self.path.suffix} ({error}): it is left out."
            self._open(with_audio=False)
        for packet in self._waiting:
            self.add_audio(packet)
        self._waiting.clear()

    def _open(self, *, with_audio: bool) -> None:
        import av

        assert self._size is not None
        codec = CODECS[self.path.suffix.lower()]
        try:
            self._container = av.open(str(self.path), "w")
        except OSError as error:
            raise ParameterError(f"{self.path} can't be written ({error.strerror}): name another --output.") from error
        rate = self._reader.stream.average_rate or Fraction(25)
        self._video = self._container.add_stream(codec, rate=rate, options=OPTIONS[codec])
        self._video.width, self._video.height = self._size
        self._video.pix_fmt = "yuv420p"
        self._video.codec_context.time_base = TIME_BASE
        self._audio = self._container.add_stream_from_template(self._reader.audio) if with_audio else None
        try:
            self._container.start_encoding()
        except (av.FFmpegError, ValueError) as error:
            self._container.close()
            raise ValueError(str(error)) from error


def fitted(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Return pixels (H, W, 3) in a picture of a (width, height): with a repeated edge, or resized with bars."""
    width, height = size
    down, right = height - pixels.shape[0], width - pixels.shape[1]
    if down in (0, 1) and right in (0, 1):
        return np.pad(pixels, ((0, down), (0, right), (0, 0)), mode="edge") if down or right else pixels
    scale = min(width / pixels.shape[1], height / pixels.shape[0])
    inner = max(round(pixels.shape[1] * scale), 1), max(round(pixels.shape[0] * scale), 1)
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: inner[1], : inner[0]] = cv2.resize(pixels, inner, interpolation=cv2.INTER_AREA)
    return picture
