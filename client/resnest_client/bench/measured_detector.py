"""Opens the detector that options name, and says what it is."""

from __future__ import annotations

from rich.console import Console

from resnest_client.bench.results import Subject
from resnest_client.detector_options import DEVICE, DetectorOptions, without_user
from resnest_core.detector import Detector, InProcessDetector
from resnest_core.runtimes import TensorRtRuntime


def open_subject(
    detector_options: DetectorOptions, threads: int | None, max_concurrency: int, console: Console
) -> tuple[Detector, Subject]:
    """Open a detector. One behind a server doesn't ask again by itself: what was refused shall be seen.

    Raises:
        What `load_detector`, `HttpDetector` and `GrpcDetector` raise.
    """
    detector = detector_options.open(console, max_concurrency, threads=threads, retries=0)
    runtime = detector.runtime.name if isinstance(detector, InProcessDetector) else None
    return detector, Subject(
        model=detector.card.name,
        precision=detector.card.precision,
        checkpoint_sha256=detector.card.checkpoint_sha256,
        runtime=runtime,
        device=_device(detector_options, runtime) if runtime else None,
        threads=threads,
        url=without_user(detector_options.url) if detector_options.url is not None else None,
    )


def _device(detector_options: DetectorOptions, runtime: str) -> str:
    return "cuda" if runtime == TensorRtRuntime.name else detector_options.device or DEVICE
