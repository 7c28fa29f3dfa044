"""Frames of a video, a camera or a stream: upright RGB pixels with their times, decoded one after another."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resnest_client.detector_options import without_user
from resnest_core.closeable import Closeable
from resnest_core.errors import MissingExtraError, NotAnImageError, RuntimeUnavailableError
from resnest_core.images import Pixels

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

SUFFIXES = frozenset(
    f".{kind}"
    for kind in "3gp avi flv m2ts m4v mkv mov mp4 mpeg mpg mts ogv ts webm wmv".split()  # noqa: SIM905
)
STREAM = re.compile(r"(rtsps?|rtmps?|https?|udp|rtp|srt)://", re.IGNORECASE)
LENGTH = re.compile(r"(\d+):(\d+):([\d.]+)")
CAMERA = re.compile(r"/dev/video\d+|\d+")
SECONDS = 15.0  # without an answer of a camera or stream
MISSING = 0.02  # share of a file's frames whose absence says that it is cut short


def is_video(source: str) -> bool:
    """Return whether a source is a video's file by its name, a camera (`/dev/video0` or `0`) or a stream's address."""
    if STREAM.match(source):
        return True
    if CAMERA.fullmatch(source):
        return not source.isdigit() or not Path(source).exists()
    return Path(source).suffix.lower() in SUFFIXES


@dataclass(frozen=True)
class Frame:
    """One frame of a video.

    Attributes:
        source: the video.
        index: its number in the video, from 0.
        time_s: seconds since the video's first frame.
        decoded: as PyAV decoded it.
    """

    source: str
    index: int
    time_s: float
    decoded: av.VideoFrame

    def pixels(self) -> Pixels:
        """Return RGB, uint8 (H, W, 3), turned upright as the video's metadata says."""
        rgb = self.decoded.to_ndarray(format="rgb24")
        return np.ascontiguousarray(np.rot90(rgb, round(self.decoded.rotation / 90))).astype(np.uint8, copy=False)


class VideoReader(Closeable):
    """An open video. A context manager; iterating decodes one frame at a time.

    `problem` says, after the last frame, why there are fewer than there should be; None: the video is complete.

    Args:
        source: a file's path, a camera's (`/dev/video0` or `0`), or a stream's address.
        start_s: seconds since the first frame; frames before it are decoded and left out.
        end_s: seconds since the first frame, from which on nothing is read.

    Raises:
        MissingExtraError: PyAV isn't installed.
        NotAnImageError: the file isn't a video.
        RuntimeUnavailableError: the camera or stream can't be opened.
    """

    def __init__(self, source: str, *, start_s: float = 0.0, end_s: float | None = None) -> None:
        try:
            import av
        except ImportError as error:
            raise MissingExtraError("av", "video") from error
        self.source = without_user(source) if STREAM.match(source) else source  # as it is shown
        self._address = source
        self.is_live = bool(STREAM.match(source) or CAMERA.fullmatch(source))
        self.problem: str | None = None
        self._start_s, self._end_s = start_s, end_s
        try:
            self._container = self._open()
        except (av.FFmpegError, OSError, ValueError) as error:
            if self.is_live:
                raise RuntimeUnavailableError(f"{self.source} can't be opened: {_reason(error)}.") from None
            raise NotAnImageError(f"{source} is no video, or is damaged: {_reason(error)}.") from error
        if not self._container.streams.video:
            self._container.close()
            raise NotAnImageError(f"{self.source} has no pictures: name a video.")
        self.stream = self._container.streams.video[0]
        # Threads by frame hold frames back, as many as there are threads.
        self.stream.thread_type = "SLICE" if self.is_endless else "AUTO"
        self.audio = self._container.streams.audio[0] if self._container.streams.audio else None

    @property
    def is_endless(self) -> bool:
        """Whether this is a camera, or a stream that doesn't know its end: it sends when it likes, and doesn't wait."""
        return self.is_live and self._container.duration is None

    @property
    def expected_frames(self) -> int | None:
        """How many frames the file says it has, between `start_s` and `end_s`; None: it doesn't say."""
        rate = float(self.stream.average_rate or 0)
        seconds = self._seconds()
        if not rate or seconds is None:
            return None
        return max(round((min(seconds, self._end_s or seconds) - self._start_s) * rate), 0)

    def packets(self) -> Generator[Frame | av.Packet[Any], None, None]:
        """Yield the frames, and between them the packets of the audio."""
        import av

        index, damaged = 0, 0
        clock = _Clock(float(self.stream.average_rate or 25))
        streams = [self.stream] if self.audio is None else [self.stream, self.audio]
        try:
            for packet in self._container.demux(streams):
                if packet.stream is self.audio:
                    yield packet
                    continue
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    damaged += 1
                    continue
                for decoded in frames:
                    if not isinstance(decoded, av.VideoFrame):
                        continue
                    last = clock.seconds(decoded.time)
                    if self._end_s is not None and last >= self._end_s:
                        return
                    if last >= self._start_s:
                        yield Frame(self.source, index, round(last, 6), decoded)
                    index += 1
        except av.FFmpegError as error:
            self.problem = f"{self.source} ended after frame {index}: {_reason(error)}."
            return
        self.problem = self._missing(index, clock.last, damaged)

    def __iter__(self) -> Iterator[Frame]:
        return (each for each in self.packets() if isinstance(each, Frame))

    def close(self) -> None:
        """Close the file or stream."""
        self._container.close()

    def _open(self) -> InputContainer:
        import av

        if CAMERA.fullmatch(self.source):
            path = f"/dev/video{self.source}" if self.source.isdigit() else self.source
            return av.open(path, format="v4l2", timeout=SECONDS)
        options = {"rtsp_transport": "tcp"} if self._address.lower().startswith("rtsp") else {}
        return av.open(self._address, options=options, timeout=SECONDS if self.is_live else None)

    def _seconds(self) -> float | None:
        """Return the length of the pictures as the file tells it; that of the whole file counts the audio, too."""
        if self.stream.duration is not None and self.stream.time_base is not None:
            return float(self.stream.duration * self.stream.time_base)
        if written := LENGTH.match(self.stream.metadata.get("DURATION", "")):  # Matroska's and WebM's
            hours, minutes, seconds = map(float, written.groups())
            return hours * 3600 + minutes * 60 + seconds
        return None

    def _missing(self, frames: int, last: float, damaged: int) -> str | None:
        """Return what to say of a video that has been read to its end."""
        if damaged:
            return f"{self.source} is damaged: {damaged} of its packets couldn't be decoded."
        if self.is_live:
            return f"{self.source} ended after {frames} frames."
        if not frames:
            return f"{self.source} has no frames."
        expected = self.stream.frames
        if expected and frames < expected * (1 - MISSING):
            return f"{self.source} is cut short: {frames} of its {expected} frames could be decoded."
        seconds = self._seconds()
        if not expected and seconds is not None and last + 1 < seconds * (1 - MISSING):
            return f"{self.source} is cut short: it ends after {last:.1f} of {seconds:.1f} s."
        return None


class _Clock:
    """Turns frames' times into seconds since the first one, which never go back: joined files start again at 0."""

    def __init__(self, rate: float) -> None:
        self.last = 0.0
        self._step = 1 / rate
        self._shift: float | None = None

    def seconds(self, time: float | None) -> float:
        if self._shift is None:
            self._shift = -(time or 0.0)
            return self.last
        if time is None or time + self._shift <= self.last:
            self._shift = self.last + self._step - (time or 0.0)
        self.last = (time or 0.0) + self._shift
        return self.last


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")
