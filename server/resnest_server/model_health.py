"""Whether a model answers: told by its failures, one after the other, and by small images sent to it."""

from __future__ import annotations

import logging
import time

import cv2
import numpy as np

from resnest_core.errors import RuntimeUnavailableError

MAX_FAILURES = 3  # one after the other, until the model isn't ready
IDLE_SECONDS = 60.0  # without an answer, until an idle model is probed
BUSY_SECONDS = 10.0  # without an answer, until a model with images in flight is probed
PROBE_SIZE_HW = (24, 640)  # so narrow that its scaled form costs a network little
PROBE_PIXELS = np.full((*PROBE_SIZE_HW, 3), 128, np.uint8)
PROBE_IMAGE = cv2.imencode(".png", PROBE_PIXELS)[1].tobytes()

log = logging.getLogger(__name__)


class ModelHealth:
    """What is known of one model; used on one event loop."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._failures = 0
        self._reason: str | None = None
        self._answered = time.monotonic()

    def answered(self) -> None:
        """Note that the model has answered an image."""
        if self._reason:
            log.warning("%s answers again.", self._model)
        self._failures, self._reason = 0, None
        self._answered = time.monotonic()

    def failed(self, reason: str) -> None:
        """Note that it failed on an image, which may be the cause; a few times in a row, and it isn't ready."""
        self._failures += 1
        if self._failures >= MAX_FAILURES:
            self._is_away(f"{self._model} has failed {self._failures} times in a row: {reason}")

    def probe_failed(self, reason: str) -> None:
        """Note that it failed on an image that is known to be good: it isn't ready."""
        self._is_away(f"{self._model} has failed on a test image: {reason}")

    @property
    def has_failed(self) -> bool:
        """Whether it has failed since its last answer."""
        return self._failures > 0 or self._reason is not None

    def needs_probe(self, in_flight: int) -> bool:
        """Return whether a test image has to tell how it is."""
        silent = time.monotonic() - self._answered
        return self.has_failed or silent > (BUSY_SECONDS if in_flight else IDLE_SECONDS)

    def check(self) -> None:
        """Raise RuntimeUnavailableError, with the reason, if the model isn't ready."""
        if self._reason:
            raise RuntimeUnavailableError(self._reason)

    def _is_away(self, reason: str) -> None:
        if self._reason is None:
            log.error("%s", reason)
        self._reason = reason
