"""Detects in a video's frames, in order, with little in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from resnest_client.outputs import AnswerWriter
from resnest_client.progress import progress_bar
from resnest_client.video.live import newest
from resnest_client.video.outputs import VideoOutput, choose_video_output
from resnest_client.video.reader import Frame, VideoReader
from resnest_client.video.tracking import Tracker
from resnest_core.detections import Detections
from resnest_core.detector import Detector, InProcessDetector, checked_threshold
from resnest_core.errors import ImageError, ParameterError, ResNeStError
from resnest_core.images import Pixels
from resnest_core.tiles import Tiles


@dataclass(frozen=True)
class VideoOptions:
    """What is done with a video.

    Attributes:
        every: detect in each of so many frames.
        start_s: seconds since the first frame.
        end_s: seconds since the first frame; None: to the end.
        track: number the objects through the video.
        tiles: windows to detect in.

    Raises:
        ParameterError: an option is out of range.
    """

    every: int = 1
    start_s: float = 0.0
    end_s: float | None = None
    track: bool = False
    tiles: Tiles | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ParameterError(f"--every must be at least 1, not {self.every}.")
        if not self.start_s >= 0:
            raise ParameterError(f"--start must be at least 0 seconds, not {self.start_s}.")
        if self.end_s is not None and not self.end_s > self.start_s:
            raise ParameterError(f"--end ({self.end_s}) must be after --start ({self.start_s}).")


def detect_in_video(
    source: str,
    detector: Detector,
    options: VideoOptions,
    output: Path | None,
    writer: AnswerWriter,
    console: Console,
    score_threshold: float | None,
) -> bool:
    """Detect in a video, and return whether all of it could be read; what is wrong is said on the console.

    Raises:
        ResNeStError: the video, the output or the detector can't be used.
    """
    with VideoReader(source, start_s=options.start_s, end_s=options.end_s) as reader:
        tracker = Tracker(float(reader.stream.average_rate or 25) / options.every) if options.track else None
        with choose_video_output(output, reader, writer, detector.card) as chosen, progress_bar(console) as progress:
            if score_threshold is None:
                score_threshold = chosen.score_threshold
            checked_threshold(score_threshold, detector.card)
            bar = progress.add_task("Detecting", total=reader.expected_frames)
            masks = writer.masks != "none"
            failed = 0
            with closing(_detected(reader, detector, options, chosen, score_threshold, masks)) as answers:
                for frame, found, is_new in answers:
                    if isinstance(found, ImageError):
                        failed += 1
                        console.print(f"Frame {frame.index}: {found}", markup=False)
                    elif isinstance(found, ResNeStError):
                        raise found
                    else:
                        tracked = tracker.update(found) if tracker and is_new and found is not None else found
                        chosen.add(frame, tracked, is_new=is_new)
                    progress.advance(bar)
        for sentence in filter(None, (chosen.warning, reader.problem)):
            console.print(sentence, markup=False)
    return not failed and reader.problem is None


def _detected(
    reader: VideoReader,
    detector: Detector,
    options: VideoOptions,
    output: VideoOutput,
    score_threshold: float | None,
    masks: bool,
) -> Generator[tuple[Frame, Detections | ResNeStError | None, bool], None, None]:
    """Yield the frames in order, with their detections or an error, or with the last ones: then the third is false."""
    waiting: deque[tuple[Frame, bool]] = deque()  # frames that are read ahead, and whether they are detected in

    def asked() -> Iterator[Pixels]:
        every = 1 if reader.is_endless else options.every
        for count, frame in enumerate(frames):
            if count % every == 0:
                waiting.append((frame, True))
                yield frame.pixels()
            elif output.takes_every_frame:
                waiting.append((frame, False))

    last: Detections | None = None
    with (
        closing(_frames(reader, options.every, output)) as frames,
        closing(_results(detector, asked(), options.tiles, score_threshold, masks)) as results,
    ):
        for result in results:
            while not waiting[0][1]:
                yield waiting.popleft()[0], last, False
            yield waiting.popleft()[0], result, True
            last = result if isinstance(result, Detections) else None
        while waiting:
            yield waiting.popleft()[0], last, False


def _frames(reader: VideoReader, every: int, output: VideoOutput) -> Generator[Frame, None, None]:
    """Yield the frames of a file; of an endless source, of each Nth the newest."""
    with closing(newest(reader.packets(), every) if reader.is_endless else reader.packets()) as packets:
        for each in packets:
            if isinstance(each, Frame):
                yield each
            else:
                output.add_audio(each)


def _results(
    detector: Detector, images: Iterable[Pixels], tiles: Tiles | None, score_threshold: float | None, masks: bool
) -> Generator[Detections | ResNeStError, None, None]:
    if tiles is None:
        # One frame at a time in the process: frames that are read ahead take memory, and batches gain little.
        size = 1 if isinstance(detector, InProcessDetector) else None
        results = detector.detect_many(
            images, batch_size=size, on_error="yield", score_threshold=score_threshold, masks=masks
        )
        with closing(results):  # type: ignore[type-var]
            yield from results
        return
    for image in images:
        try:
            yield detector.detect(image, tiles=tiles, score_threshold=score_threshold, masks=masks)
        except ResNeStError as error:
            yield error
