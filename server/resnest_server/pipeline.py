"""From an encoded image to an encoded answer, none of it on the event loop."""

from __future__ import annotations

import os

import anyio
from anyio.to_thread import run_sync
from pydantic_core import to_json

from resnest_core.detections import Detections
from resnest_core.detector import InProcessDetector
from resnest_core.drawing import draw, encode
from resnest_core.formats import FORMATS
from resnest_core.images import Pixels, decode_image
from resnest_core.preprocess import PreparedImage, prepare
from resnest_server.parameters import Asked
from resnest_server.timings import Timings


class Pipeline:
    """Decodes and encodes on as many threads as there are cores, and runs the network on one image at a time."""

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        # Decoded images are large: there are never more of them than cores at work on them.
        self._host = anyio.CapacityLimiter(os.cpu_count() or 1)
        self._network = anyio.CapacityLimiter(1)  # a network takes all cores

    async def answer(self, detector: InProcessDetector, data: bytes, asked: Asked, image_id: int = 0) -> bytes:
        """Return the answer for an image: JSON, or its drawing.

        Raises:
            NotAnImageError: the bytes are no image, or a damaged one.
            ImageTooLargeError: the image has too many pixels.
        """
        timings = Timings()

        def decode() -> tuple[Pixels | None, PreparedImage]:
            with timings.stage("decode"):
                pixels = decode_image(data, max_pixels=self._max_pixels)
            with timings.stage("resize"):
                return pixels if asked.is_drawing else None, prepare(pixels, asked.card)

        def infer() -> Detections:
            with timings.stage("network"):
                return detector.infer([image], [asked.score_threshold], [asked.want_masks])[0]

        def render() -> bytes:
            found = asked.select(detections)
            if pixels is not None:
                return encode(draw(pixels, found, asked.card, score_threshold=0), asked.media_type)
            with timings.stage("format"):
                answer = FORMATS[asked.format](found, asked.card, masks=asked.masks, image_id=image_id)
            if isinstance(answer, dict):
                answer["timings_ms"] = timings.with_total()
            return to_json(answer)

        pixels, image = await run_sync(decode, limiter=self._host)
        detections = await run_sync(infer, limiter=self._network)
        return await run_sync(render, limiter=self._host)
