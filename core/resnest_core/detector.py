"""`detect(image, …) -> Detections`: the interface that every detector has, and the one that runs in this process."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Literal, TypeAlias, overload

import numpy as np

from resnest_core import tensors
from resnest_core.batches import DEFAULT_BATCH_SIZE, in_batches
from resnest_core.card import ModelCard
from resnest_core.closeable import Closeable
from resnest_core.detections import Detections
from resnest_core.errors import ParameterError, ResNeStError
from resnest_core.images import Color, Image, load_image
from resnest_core.large_images import open_pixels
from resnest_core.preprocess import PreparedImage, prepare, stack
from resnest_core.runtimes.base import Runtime
from resnest_core.tiles import Tiles, merged

OnError: TypeAlias = Literal["raise", "yield"]


def checked_threshold(score_threshold: float | None, card: ModelCard) -> float:
    """Return the threshold that a request gets: its own, or at least the model's.

    Raises:
        ParameterError: it isn't a number in 0…1.
    """
    if score_threshold is None:
        return card.score_threshold
    if not (math.isfinite(score_threshold) and 0 <= score_threshold <= 1):
        raise ParameterError(f"score_threshold must be a number from 0 to 1, not {score_threshold}.")
    return max(score_threshold, card.score_threshold)


def checked_many(batch_size: int | None, on_error: OnError) -> None:
    """Check the arguments of `detect_many`.

    Raises:
        ParameterError: one isn't as described.
    """
    if batch_size is not None and batch_size < 1:
        raise ParameterError(f"batch_size must be at least 1, not {batch_size}.")
    if on_error not in ("raise", "yield"):
        raise ParameterError(f"on_error must be raise or yield, not {on_error!r}.")


class Detector(Closeable, ABC):
    """Detects objects: in this process, or through a server. A subclass detects in one image, and starts on several."""

    card: ModelCard

    def detect(
        self,
        image: Image,
        *,
        score_threshold: float | None = None,
        masks: bool = True,
        color: Color = "rgb",
        tiles: Tiles | None = None,
    ) -> Detections:
        """Detect objects in one image.

        Args:
            image: encoded bytes, a path to them, pixels as uint8 (H, W, 3), or an image of Pillow.
            score_threshold: 0…1, nothing at or below it is returned; None, or less than it: the model's own.
            masks: whether to return masks, where the model has them.
            color: order of the channels, if the image is an array: OpenCV's are `bgr`.
            tiles: windows to detect in, for an image much larger than the objects in it; None: the whole image at once.

        Raises:
            ImageError: the image can't be used.
            ParameterError: the threshold isn't in 0…1, or another argument isn't as described.
        """
        checked_threshold(score_threshold, self.card)
        if tiles is None:
            found = self._detect(image, score_threshold, masks, color)
        else:
            with open_pixels(image, color) as pixels:
                windows = tiles.windows(pixels.size_hw)
                parts = self.detect_many(map(pixels.read, windows), score_threshold=score_threshold, masks=masks)
                found = merged(zip(windows, parts, strict=True), pixels.size_hw, self.card)
        return replace(found, card=self.card, image=image, color=color)

    @overload
    def detect_many(
        self,
        images: Iterable[Image],
        *,
        batch_size: int | None = None,
        on_error: Literal["raise"] = "raise",
        score_threshold: float | None = None,
        masks: bool = True,
        color: Color = "rgb",
    ) -> Iterator[Detections]: ...
    @overload
    def detect_many(
        self,
        images: Iterable[Image],
        *,
        batch_size: int | None = None,
        on_error: OnError,
        score_threshold: float | None = None,
        masks: bool = True,
        color: Color = "rgb",
    ) -> Iterator[Detections | ResNeStError]: ...
    def detect_many(
        self,
        images: Iterable[Image],
        *,
        batch_size: int | None = None,
        on_error: OnError = "raise",
        score_threshold: float | None = None,
        masks: bool = True,
        color: Color = "rgb",
    ) -> Iterator[Detections | ResNeStError]:
        """Yield each image's detections, in order; only a few images are read ahead.

        Args:
            images: any iterable, read lazily.
            batch_size: in this process, images of equal padded shape in one run of the network; None: 4. Through a
                server, requests in flight, up to the client's `max_concurrency`: the server makes its own batches.
            on_error: `raise` raises the error of the first image that fails; `yield` yields it in the image's place.
            score_threshold: as for `detect`.
            masks: as for `detect`.
            color: as for `detect`.

        Raises:
            ResNeStError: the errors of `detect`, with `on_error="raise"`.
            ParameterError: an argument isn't as described.
        """
        checked_many(batch_size, on_error)
        checked_threshold(score_threshold, self.card)
        return self._yielded(images, batch_size, on_error, score_threshold, masks, color)

    @abstractmethod
    def _detect(self, image: Image, score_threshold: float | None, masks: bool, color: Color) -> Detections:
        """Detect objects in one image; the threshold has been checked."""

    def _start_many(
        self,
        images: Iterable[Image],
        batch_size: int | None,  # noqa: ARG002 - for subclasses
        score_threshold: float | None,
        masks: bool,
        color: Color,
    ) -> Generator[Callable[[], Detections], None, None]:
        """Yield for each image, in order, a function that waits for its detections or raises its error."""
        yield from (partial(self._detect, image, score_threshold, masks, color) for image in images)

    def _yielded(
        self,
        images: Iterable[Image],
        batch_size: int | None,
        on_error: OnError,
        score_threshold: float | None,
        masks: bool,
        color: Color,
    ) -> Iterator[Detections | ResNeStError]:
        sources: deque[Image] = deque()  # of the images that are read ahead
        read = _remembering(images, sources)
        with closing(self._start_many(read, batch_size, score_threshold, masks, color)) as results:
            for result in results:
                image = sources.popleft()
                try:
                    yield replace(result(), card=self.card, image=image, color=color)
                except ResNeStError as error:
                    if on_error == "raise":
                        raise
                    yield error


def _remembering(images: Iterable[Image], sources: deque[Image]) -> Iterator[Image]:
    for image in images:
        sources.append(image)
        yield image


class InProcessDetector(Detector):
    """A detector that runs a network in this process."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.card = runtime.card

    def _detect(self, image: Image, score_threshold: float | None, masks: bool, color: Color) -> Detections:
        prepared = prepare(load_image(image, color=color), self.card)
        return self.infer([prepared], [checked_threshold(score_threshold, self.card)], [masks])[0]

    def _start_many(
        self, images: Iterable[Image], batch_size: int | None, score_threshold: float | None, masks: bool, color: Color
    ) -> Generator[Callable[[], Detections], None, None]:
        threshold = checked_threshold(score_threshold, self.card)

        def prepared(image: Image) -> PreparedImage:
            return prepare(load_image(image, color=color), self.card)

        def run(batch: Sequence[PreparedImage]) -> list[Detections]:
            return self.infer(batch, [threshold] * len(batch), [masks] * len(batch))

        return in_batches(prepared, run, images, batch_size or DEFAULT_BATCH_SIZE)

    def infer(
        self, images: Sequence[PreparedImage], score_thresholds: Sequence[float], want_masks: Sequence[bool]
    ) -> list[Detections]:
        """Run the network on a batch of prepared images, with a threshold and a mask flag per image."""
        inputs = stack(images) | {
            tensors.SCORE_THRESHOLDS: np.array(score_thresholds, np.float32)[:, None],
            tensors.WANT_MASKS: np.array(want_masks, np.bool_)[:, None],
        }
        outputs = self.runtime.run(inputs)
        return [
            unpack(outputs, row, image.original_size_hw, want)
            for row, (image, want) in enumerate(zip(images, want_masks, strict=True))
        ]

    def close(self) -> None:
        """Close the runtime."""
        self.runtime.close()


def unpack(outputs: tensors.Tensors, row: int, original_size_hw: tuple[int, int], masks: bool) -> Detections:
    """Return the detections of one row of a network's outputs."""
    count = int(outputs[tensors.NUM_DETECTIONS][row, 0])
    has_masks = masks and tensors.MASKS in outputs
    return Detections(
        boxes_xyxy=outputs[tensors.BOXES][row, :count],
        scores=outputs[tensors.SCORES][row, :count],
        labels=outputs[tensors.LABELS][row, :count],
        masks=outputs[tensors.MASKS][row, :count] if has_masks else None,
        image_size_hw=original_size_hw,
    )
