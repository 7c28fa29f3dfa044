"""What every server here does with a request: decode, resize, a runtime without a network, an answer with RLE masks."""

from __future__ import annotations

from pydantic_core import to_json

from resnest_core.detector import InProcessDetector
from resnest_core.formats import native
from resnest_core.runtimes.fake import FAKE_CARD, FakeRuntime
from resnest_core.tensors import Tensors
from resnest_core.threads import work_in_callers_thread

CARD = FAKE_CARD
DETECTIONS = 5


class Forgetful(FakeRuntime):
    """The fake runtime, without its record of what it was given."""

    def run(self, inputs: Tensors) -> Tensors:
        outputs = super().run(inputs)
        self.calls.clear()
        return outputs


def make_detector() -> InProcessDetector:
    """Return the detector that every server runs, and give all of them the same threads."""
    work_in_callers_thread()
    return InProcessDetector(Forgetful(CARD, count=DETECTIONS))


def answer(detector: InProcessDetector, image: bytes) -> bytes:
    """Return a JSON answer for an encoded image."""
    return to_json(native(detector.detect(image), CARD))
