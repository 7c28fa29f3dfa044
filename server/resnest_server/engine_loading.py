"""Loads the models of a repository, or finds those of Triton, as engines by name."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from resnest_core.cpus import allowed_cpus
from resnest_core.errors import ModelNotFoundError
from resnest_core.repository import (
    default_model,
    find_model,
    find_repository,
    installed_models,
    load_detector,
    repository_problems,
)
from resnest_core.runtimes import RUNTIMES, preferred_runtime
from resnest_server.cpu_layout import CpuLayout, cpu_layout, described, layout_warnings
from resnest_server.engines import Engine, LocalEngine
from resnest_server.settings import TRITON, Settings
from resnest_server.triton_engine import TritonEngine, find_cards

log = logging.getLogger(__name__)


def load_engines(settings: Settings) -> list[Engine]:
    """Load the models that the settings name, or all of the repository; or find those that Triton runs.

    Raises:
        ModelNotFoundError: there are none, or one of those named is missing.
        InvalidModelError: a file is damaged, or wasn't made by `resnest export`; or a model of Triton's is another.
        RuntimeUnavailableError, MissingExtraError: the runtime, the device or Triton isn't there.
    """
    if settings.runtime == TRITON:
        for warning in layout_warnings(settings, TRITON, allowed_cpus()):
            log.warning("%s", warning)
        cards = find_cards(settings)
        choose_default([card.name for card in cards], settings)
        return [TritonEngine(card, settings) for card in cards]
    repository = find_repository(settings.repository)
    for problem in repository_problems(repository):
        log.warning("%s", problem)
    names = settings.models or installed_models(repository)
    if not names:
        raise ModelNotFoundError(f"There are no models in {repository}: `resnest export NAME` makes one.")
    # Before the first is loaded, which may take long.
    for name in names:
        find_model(name, repository)
    choose_default(names, settings)
    runtime = settings.runtime
    if runtime is None:
        runtime, reason = preferred_runtime(settings.device)
        log.info("Networks run with %s: %s.", runtime, reason)
    device = settings.device or RUNTIMES[runtime].devices[0]
    for warning in layout_warnings(settings, device, allowed_cpus()):
        log.warning("%s", warning)
    layout = cpu_layout(settings, device, allowed_cpus())
    return [_load(name, runtime, layout, repository, settings) for name in dict.fromkeys(names)]


def _load(name: str, runtime: str, layout: CpuLayout, repository: Path, settings: Settings) -> LocalEngine:
    load = partial(
        load_detector,
        name,
        runtime=runtime,
        device=settings.device,
        threads=layout.threads,
        instances=layout.instances,
        repository=repository,
        fallback=settings.fallback,
    )
    start = time.perf_counter()
    detector = load()
    seconds = time.perf_counter() - start
    log.info("%s was loaded in %.1f s.", name, seconds)
    loaded = detector.runtime
    chosen = described(settings, layout, loaded)
    how = (name, detector.card.precision, loaded.title, loaded.device, settings.optimize, chosen)
    log.info("%s (%s) runs in %s on %s, optimized for %s: %s.", *how)
    return LocalEngine(detector, settings, seconds, load, instances=layout.instances)


def by_name(engines: Iterable[Engine]) -> dict[str, Engine]:
    """Return the engines by their models' names, sorted."""
    return {engine.name: engine for engine in sorted(engines, key=lambda engine: engine.name)}


def choose_default(names: Sequence[str], settings: Settings) -> str:
    """Return the name of the model that `/v1/detect` uses: the one in the settings, else the first by name.

    Raises:
        ModelNotFoundError: the settings name one that isn't served.
    """
    name = settings.default_model or default_model(names)
    if name not in names:
        raise ModelNotFoundError(f"The default model {name!r} isn't served: name one of {', '.join(sorted(names))}.")
    return name
