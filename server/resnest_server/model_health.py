"""Whether a model answers: told by a small image that is sent to it once it has failed, or was silent."""

from __future__ import annotations

import logging
import time

import cv2
import numpy as np

from resnest_core.errors import RuntimeUnavailableError

IDLE_SECONDS = 60.0  # without an answer, until an idle model is probed
BUSY_SECONDS = 10.0  # without an answer, until a model with images in flight is probed
MEAN_OVER = 8  # answers
PROBE_SIZE_HW = (24, 640)  # so narrow that its scaled form costs a network little
PROBE_PIXELS = np.full((*PROBE_SIZE_HW, 3), 128, np.uint8)
PROBE_IMAGE = cv2.imencode(".png", PROBE_PIXELS)[1].tobytes()

log = logging.getLogger(__name__)


class ModelHealth:
    """What is known of one model; used on one event loop."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._has_failed = False
        self._reason: str | None = None
        self._answered = time.monotonic()
        self.mean_seconds = 0.0
        """Of the last answers, about."""

    def answered(self, seconds: float | None = None) -> None:
        """Note that the model has answered an image, in so many seconds if they tell how busy it is."""
        if self._reason:
            log.warning("%s answers again.", self._model)
        self._has_failed, self._reason = False, None
        self._answered = time.monotonic()
        if seconds is not None:
            self.mean_seconds += (seconds - self.mean_seconds) / MEAN_OVER

    def failed(self) -> None:
        """Note that it failed on an image. The image may be the cause: a test image has to tell."""
        self._has_failed = True

    @property
    def silent_seconds(self) -> float:
        """Seconds since the last answer."""
        return time.monotonic() - self._answered

    def probe_failed(self, reason: str) -> None:
        """Note that it failed on an image that is known to be good: it isn't ready."""
        sentence = f"{self._model} has failed on a test image: {reason}"
        if self._reason is None:
            log.error("%s", sentence)
        self._reason = sentence

    @property
    def has_failed(self) -> bool:
        """Whether it has failed since its last answer."""
        return self._has_failed or self._reason is not None

    def needs_probe(self, in_flight: int) -> bool:
        """Return whether a test image has to tell how it is."""
        return self.has_failed or self.silent_seconds > (BUSY_SECONDS if in_flight else IDLE_SECONDS)

    def check(self) -> None:
        """Raise RuntimeUnavailableError, with the reason, if the model isn't ready."""
        if self._reason:
            raise RuntimeUnavailableError(self._reason)
