"""The models that a gateway serves."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from resnest_core.detector import InProcessDetector
from resnest_core.errors import ModelNotFoundError
from resnest_core.repository import default_model, find_repository, installed_models, load_detector
from resnest_server.settings import Settings

log = logging.getLogger(__name__)


def load_detectors(settings: Settings) -> dict[str, InProcessDetector]:
    """Load the models that the settings name, or all of the repository.

    Raises:
        ModelNotFoundError: there are none, or not one of those named.
        InvalidModelError: a file is damaged, or wasn't made by `resnest export`.
    """
    repository = find_repository(settings.repository)
    names = settings.models or installed_models(repository)
    if not names:
        raise ModelNotFoundError(f"There are no models in {repository}: `resnest export NAME` makes one.")
    return {
        name: load_detector(
            name, runtime=settings.runtime, device=settings.device, threads=settings.threads, repository=repository
        )
        for name in names
    }


class Models:
    """Detectors by name, one of them the default.

    Raises:
        ModelNotFoundError: the default one isn't among them.
    """

    def __init__(self, detectors: Mapping[str, InProcessDetector], default: str | None) -> None:
        self.detectors = dict(sorted(detectors.items()))
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
