"""Opens the detector to be measured, and describes it for the results."""

from __future__ import annotations

from rich.console import Console

from resnest_client.backend import backend_of
from resnest_client.bench.results import Subject
from resnest_client.detector_options import DetectorOptions, without_user
from resnest_core.detector import Detector


def open_subject(
    detector_options: DetectorOptions, threads: int | None, max_concurrency: int, console: Console
) -> tuple[Detector, Subject]:
    """Open a detector. Clients of a server don't retry: refused requests are counted as errors.

    Raises:
        ResNeStError: the errors of `load_detector`, `HttpDetector` and `GrpcDetector`.
    """
    detector = detector_options.open(console, max_concurrency, threads=threads, retries=0)
    backend = backend_of(detector)
    return detector, Subject(
        model=detector.card.name,
        precision=detector.card.precision,
        checkpoint_sha256=detector.card.checkpoint_sha256,
        runtime=backend.runtime,
        device=backend.device,
        threads=threads,
        url=without_user(detector_options.url) if detector_options.url is not None else None,
    )
