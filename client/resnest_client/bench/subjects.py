"""Opens the detector that options name, and says what it is."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from resnest_client.bench.machine import without_user
from resnest_client.bench.results import Subject
from resnest_client.choosing import GRPC, Choice
from resnest_core.card import ModelCard
from resnest_core.detector import Detector
from resnest_core.errors import ModelNotFoundError
from resnest_core.repository import default_model, find_repository, installed_models, load_detector

DEVICE = "cpu"


def open_subject(
    choice: Choice, threads: int | None, max_concurrency: int, console: Console
) -> tuple[Detector, Subject]:
    """Open a detector. One behind a server doesn't ask again by itself: what was refused shall be seen.

    Raises:
        What `load_detector`, `HttpDetector` and `GrpcDetector` raise.
    """
    if choice.url is None:
        name = choice.model or _first(choice.repository, console)
        return open_local(name, choice.runtime, choice.device or DEVICE, threads, choice.repository)
    detector: Detector
    if choice.url.startswith(GRPC):
        from resnest_client import GrpcDetector

        detector = GrpcDetector(choice.url, choice.model, retries=0, max_concurrency=max_concurrency)
    else:
        from resnest_client import HttpDetector

        detector = HttpDetector(
            choice.url, choice.model, api_key=choice.api_key, retries=0, max_concurrency=max_concurrency
        )
    return detector, _subject(detector.card, url=without_user(choice.url))


def open_local(
    name: str, runtime: str | None, device: str, threads: int | None, repository: Path | None
) -> tuple[Detector, Subject]:
    """Load a detector into this process."""
    detector = load_detector(name, runtime=runtime, device=device, threads=threads, repository=repository)
    return detector, _subject(detector.card, runtime=detector.runtime.name, device=device, threads=threads)


def _subject(card: ModelCard, **where: str | int | None) -> Subject:
    return Subject(
        model=card.name,
        precision=card.precision,
        checkpoint_sha256=card.checkpoint_sha256,
        **where,  # type: ignore[arg-type]
    )


def _first(repository: Path | None, console: Console) -> str:
    where = find_repository(repository)
    names = installed_models(where)
    if not names:
        raise ModelNotFoundError(f"There are no models in {where}: `resnest export NAME` makes one.")
    if len(names) > 1:
        console.print(f"Using {default_model(names)}, the first of {', '.join(names)}; --model names another.")
    return default_model(names)
