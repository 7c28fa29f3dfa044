"""The models that a gateway serves."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

from resnest_core.card import ModelCard
from resnest_core.detector import InProcessDetector
from resnest_core.errors import ModelNotFoundError
from resnest_core.repository import default_model, find_repository, installed_models, load_detector
from resnest_core.runtimes import fastest_runtime
from resnest_server.settings import Settings

log = logging.getLogger(__name__)


class Models:
    """Cards by name, one of them the default; and the detectors of those that run in this process.

    Args:
        detectors: by name.
        default: name of the default one; None: the first by name.
        load_seconds: how long each took to load.
        remote: cards of the models that Triton runs.

    Raises:
        ModelNotFoundError: the default one isn't among them.
    """

    def __init__(
        self,
        detectors: Mapping[str, InProcessDetector],
        default: str | None = None,
        load_seconds: Mapping[str, float] | None = None,
        remote: Sequence[ModelCard] = (),
    ) -> None:
        self.detectors = detectors
        self.load_seconds = load_seconds or {}
        cards = [*((name, detector.card) for name, detector in detectors.items()), *((c.name, c) for c in remote)]
        self.cards = dict(sorted(cards, key=lambda row: row[0]))
        self.default = default or default_model(list(self.cards))
        self.find(self.default)
        if default is None and len(self.cards) > 1:
            log.warning("/v1/detect uses %s, the first of %s.", self.default, ", ".join(self.cards))

    def find(self, name: str) -> ModelCard:
        """Return the card of the model of this name.

        Raises:
            ModelNotFoundError: there is none.
        """
        if name not in self.cards:
            raise ModelNotFoundError(f"There is no model {name!r} here: use one of {', '.join(self.cards)}.")
        return self.cards[name]

    def runtime(self, name: str) -> str:
        """Return what runs the model of this name, such as `openvino`, or `triton`."""
        return self.detectors[name].runtime.name if name in self.detectors else "triton"

    def close(self) -> None:
        """Give back what the detectors hold."""
        for detector in self.detectors.values():
            detector.close()


def load_models(settings: Settings) -> Models:
    """Load the models that the settings name, or all of the repository; or find those that Triton runs.

    Raises:
        ModelNotFoundError: there are none, or not one of those named.
        InvalidModelError: a file is damaged, or wasn't made by `resnest export`; or a model of Triton's is another.
        RuntimeUnavailableError, MissingExtraError: the runtime, the device or Triton isn't there.
    """
    if settings.runtime == "triton":
        from resnest_server.triton_engine import find_cards

        return Models({}, settings.default_model, remote=find_cards(settings))
    repository = find_repository(settings.repository)
    names = settings.models or installed_models(repository)
    if not names:
        raise ModelNotFoundError(f"There are no models in {repository}: `resnest export NAME` makes one.")
    runtime: str | None = settings.runtime
    if runtime is None:
        runtime, reason = fastest_runtime(settings.device)
        log.info("Networks run with %s: %s.", runtime, reason)
    detectors: dict[str, InProcessDetector] = {}
    seconds: dict[str, float] = {}
    for name in names:
        start = time.perf_counter()
        detectors[name] = load_detector(
            name,
            runtime=runtime,
            device=settings.device,
            threads=settings.threads,
            instances=settings.instances,
            repository=repository,
            fallback=settings.fallback,
        )
        seconds[name] = time.perf_counter() - start
        log.info("%s was loaded in %.1f s.", name, seconds[name])
    return Models(detectors, settings.default_model, seconds)
