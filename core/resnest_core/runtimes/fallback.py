"""A runtime, or what it falls back to, fp32 included: for servers that are to answer on any machine."""

from __future__ import annotations

import logging
from pathlib import Path

from resnest_core.errors import MissingExtraError, ModelError, PrecisionUnavailableError, RuntimeUnavailableError
from resnest_core.runtimes import RUNTIMES, Runtime

log = logging.getLogger(__name__)

CANNOT_RUN = (ModelError, MissingExtraError, RuntimeUnavailableError)


def load_or_fall_back(
    runtime: type[Runtime], path: Path, *, device: str | None = None, threads: int | None = None, instances: int = 1
) -> Runtime:
    """Load the ONNX file at `path` in a runtime, or in the first of its fallbacks that can run it.

    A model of a precision that the CPU hasn't the instructions of is computed in fp32. The log says once what was
    taken, and why not the first.

    Raises:
        ParameterError, ModelError, MissingExtraError, RuntimeUnavailableError: what the last of them raises.
    """
    errors: list[Exception] = []
    for kind, on in [(runtime, device), *((RUNTIMES[name], on) for name, on in runtime.fallbacks)]:
        try:
            loaded = kind.load(path, device=on, threads=threads, instances=instances)
        except PrecisionUnavailableError as error:
            loaded = kind.load_in_fp32(path, device=on, threads=threads, instances=instances)
            log.warning("%s runs in fp32: %s", path, error)
        except CANNOT_RUN as error:
            errors.append(error)
            continue
        if errors:
            log.warning(
                "%s runs in %s on %s, without %s: %s", path, loaded.title, loaded.device, runtime.title, errors[0]
            )
        return loaded
    if len(errors) > 1:
        log.warning("%s can't run in %s: %s", path, runtime.title, errors[0])
    raise errors[-1]
