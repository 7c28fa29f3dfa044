"""Results of a profile: the schema of `--profile --output`."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from resnest_client.bench.percentiles import Interval
from resnest_client.bench.results import Subject

CONVERSIONS = "reorders and conversions"
UNATTRIBUTED = "not attributed"
BETWEEN = "between operators"


class Stage(BaseModel):
    """One processing stage, or one of three other parts of the network's time.

    `CONVERSIONS` are operators that only change layout or type, of all stages together; `UNATTRIBUTED` are operators
    whose names tell no stage; `BETWEEN` is time that no operator accounts for.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    ms: float
    """Wall time, the median of the runs."""
    share_of_time: float
    """Of the stages' sum, 0…1."""
    gflop: float | None
    """None: no stage of the network, so not counted."""
    gflop_by_precision: dict[str, float] | None
    """The same by the precision in which the runtime ran each product."""
    gflop_per_second: float | None
    share_of_peak: float | None
    """Share of the peak of all threads in the precision of each product; may exceed 1 where the runtime did fewer
    multiplications than are counted."""
    share_of_used: float | None
    """Share of the peak of the cores used on average: more meaningful on a busy machine."""


class ProfiledImage(BaseModel):
    """The image: its file's name, and (height, width) as it came, and as the network sees it."""

    model_config = ConfigDict(frozen=True)

    file: str
    size_hw: tuple[int, int]
    padded_size_hw: tuple[int, int]


class Profile(BaseModel):
    """One image's time by stage."""

    model_config = ConfigDict(frozen=True)

    subject: Subject
    image: ProfiledImage
    detections: int
    masks: bool
    score_threshold: float | None
    count: int
    """Runs, after one to warm up."""
    stages: list[Stage]
    """In processing order."""
    whole_ms: float
    """From bytes to JSON, measured around all stages; the median of the runs."""
    whole_range_ms: Interval
    """The least and the greatest."""
    gflop: float
    network_cpu_ms: float
    """CPU time of this process in the network, the median of the runs."""
    network_cores: float
    """The same ÷ wall time: less than the threads where others had the cores, or threads had to wait."""
    peaks_gflop_per_second: dict[str, float]
    """Of all threads, by precision: the best rate by CPU time of many matrix products in the installed runtimes."""
    threads: int
    """Of the runtime."""
    notes: list[str]
    started: str
    """UTC, ISO 8601."""
    machine: dict[str, str | int | float]
    versions: dict[str, str]
    git_commit: str | None
    command: str

    def stage(self, name: str) -> Stage:
        """Return the stage of this name."""
        return next(stage for stage in self.stages if stage.name == name)


def write_profile(file: Path, profile: Profile) -> None:
    """Write a profile as JSON."""
    file.write_text(f"{profile.model_dump_json(indent=2)}\n", encoding="utf-8")
