"""A runtime, or what it falls back to, fp32 included: for servers that are to answer on any machine."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from resnest_core.errors import MissingExtraError, ModelError, PrecisionUnavailableError, RuntimeUnavailableError
from resnest_core.runtimes import RUNTIMES, Runtime

log = logging.getLogger(__name__)

CANNOT_RUN = (ModelError, MissingExtraError, RuntimeUnavailableError)
ROUNDED_IN_ENGINES = ("fp16", "bf16", "fp8")
"""Precisions of engines whose ONNX file, beside them, holds the network in fp32; that of int8 is quantized itself."""


def load_or_fall_back(
    runtime: type[Runtime], path: Path, *, device: str | None = None, threads: int | None = None, instances: int = 1
) -> Runtime:
    """Load the ONNX file at `path` in a runtime, or in the first of its fallbacks that can run it.

    A model of a precision that the CPU or the runtime hasn't is computed in fp32, and so are the files beside engines
    in 16-bit floats and fp8: the card of the loaded runtime then says `fp32`. The log says once what was taken, and why
    not the first.

    Raises:
        ParameterError, ModelError, MissingExtraError, RuntimeUnavailableError: what the last of them raises.
    """
    errors: list[Exception] = []
    for kind, on in [(runtime, device), *((RUNTIMES[name], on) for name, on in runtime.fallbacks)]:
        try:
            loaded, unknown = _load_in_a_known_precision(kind, path, device=on, threads=threads, instances=instances)
        except CANNOT_RUN as error:
            errors.append(error)
            continue
        if unknown or (errors and loaded.card.precision in ROUNDED_IN_ENGINES):
            loaded.card = loaded.card.model_copy(update={"precision": "fp32"})
        where = f"{loaded.title} on {loaded.device} in {loaded.card.precision}"
        if errors:
            log.warning("%s runs in %s, without %s: %s", path, where, runtime.title, errors[0])
        elif unknown:
            log.warning("%s runs in fp32: %s", path, unknown)
        return loaded
    if len(errors) > 1:
        log.warning("%s can't run in %s: %s", path, runtime.title, errors[0])
    raise errors[-1]


def _load_in_a_known_precision(
    kind: type[Runtime], path: Path, **options: Any
) -> tuple[Runtime, PrecisionUnavailableError | None]:
    """Load in the model's precision, else in fp32; return the runtime, and why it computes in fp32."""
    try:
        return kind.load(path, **options), None
    except PrecisionUnavailableError as error:
        return kind.load_in_fp32(path, **options), error
