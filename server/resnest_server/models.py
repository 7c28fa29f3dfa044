"""The models that a gateway serves."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from resnest_core.detector import InProcessDetector
from resnest_core.errors import ModelNotFoundError
from resnest_core.repository import default_model, find_repository, installed_models, load_detector
from resnest_server.settings import Settings

log = logging.getLogger(__name__)


class Models:
    """Detectors by name, one of them the default.

    Raises:
        ModelNotFoundError: the default one isn't among them.
    """

    def __init__(
        self,
        detectors: Mapping[str, InProcessDetector],
        default: str | None = None,
        load_seconds: Mapping[str, float] | None = None,
    ) -> None:
        self.detectors = dict(sorted(detectors.items()))
        self.load_seconds = load_seconds or {}
        self.default = default or default_model(list(self.detectors))
        self.find(self.default)
        if default is None and len(self.detectors) > 1:
            log.warning("/v1/detect uses %s, the first of %s.", self.default, ", ".join(self.detectors))

    def find(self, name: str) -> InProcessDetector:
        """Return the detector of this name.

        Raises:
            ModelNotFoundError: there is none.
        """
        if name not in self.detectors:
            raise ModelNotFoundError(f"There is no model {name!r} here: use one of {', '.join(self.detectors)}.")
        return self.detectors[name]

    def close(self) -> None:
        """Give back what the detectors hold."""
        for detector in self.detectors.values():
            detector.close()


def load_models(settings: Settings) -> Models:
    """Load the models that the settings name, or all of the repository.

    Raises:
        ModelNotFoundError: there are none, or not one of those named.
        InvalidModelError: a file is damaged, or wasn't made by `resnest export`.
        RuntimeUnavailableError, MissingExtraError: the runtime or the device isn't there.
    """
    repository = find_repository(settings.repository)
    names = settings.models or installed_models(repository)
    if not names:
        raise ModelNotFoundError(f"There are no models in {repository}: `resnest export NAME` makes one.")
    detectors: dict[str, InProcessDetector] = {}
    seconds: dict[str, float] = {}
    for name in names:
        start = time.perf_counter()
        detectors[name] = load_detector(
            name, runtime=settings.runtime, device=settings.device, threads=settings.threads, repository=repository
        )
        seconds[name] = time.perf_counter() - start
        log.info("%s was loaded in %.1f s.", name, seconds[name])
    return Models(detectors, settings.default_model, seconds)
