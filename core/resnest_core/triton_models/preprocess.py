"""`<model>_preprocess`: encoded bytes to the network's tensors. Each request is one image, and fails alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnest_core import tensors
from resnest_core.buckets import WASTE, Buckets
from resnest_core.detector import checked_threshold
from resnest_core.errors import ParameterError
from resnest_core.images import decode_image
from resnest_core.preprocess import prepare, stack
from resnest_core.threads import work_in_callers_thread
from resnest_core.triton_ensemble import IMAGE, SCORE_THRESHOLD, WANT_MASKS
from resnest_core.triton_models.common import (
    Request,
    Response,
    cancelled,
    fail,
    read,
    read_card,
    read_parameters,
    respond,
)


class TritonPythonModel:
    """Decodes, resizes and pads."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Read the card and the buckets from the configuration."""
        parameters = read_parameters(args)
        self.card = read_card(parameters)
        self.buckets = Buckets(parameters["buckets"])
        self.waste = float(parameters.get("waste", WASTE))
        self.max_pixels = int(parameters["max_pixels"])
        work_in_callers_thread()

    def execute(self, requests: list[Request]) -> list[Response]:
        """Answer each request by itself."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Response:
        if request.is_cancelled():
            return cancelled()
        try:
            return respond(
                self._prepare(read(request, IMAGE), read(request, SCORE_THRESHOLD), read(request, WANT_MASKS))
            )
        except Exception as error:  # any error fails this request only, not the batch
            return fail(error)

    def _prepare(
        self, image: NDArray[Any] | None, score_threshold: NDArray[Any] | None, want_masks: NDArray[Any] | None
    ) -> dict[str, NDArray[Any]]:
        if image is None or image.size != 1:
            raise ParameterError("A request holds one image: send several requests, they share batches.")
        asked = None if score_threshold is None else float(score_threshold.item())
        threshold = checked_threshold(asked, self.card)
        pixels = decode_image(image.item(), max_pixels=self.max_pixels)
        outputs = stack([prepare(pixels, self.card, self.buckets, self.waste)])
        outputs[tensors.SCORE_THRESHOLDS] = np.array([[threshold]], np.float32)
        if self.card.has_masks:
            outputs[tensors.WANT_MASKS] = np.array([[True if want_masks is None else want_masks.item()]], np.bool_)
        return outputs
