"""Results of runs: the schema of `--output`, which is a list of `Run`."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from resnest_client.bench.percentiles import Interval
from resnest_core.errors import ParameterError

PERCENTILES = (50, 90, 95, 99)


class Latency(BaseModel):
    """Latency of successful requests in milliseconds; in an open loop counted from the intended time of sending."""

    model_config = ConfigDict(frozen=True)

    p50: float
    p90: float
    p95: float
    p99: float
    mean: float
    ci95: dict[str, Interval]
    """95 % confidence interval of each percentile; None: too few requests for a bound."""


class Memory(BaseModel):
    """Peak resident memory in MiB."""

    model_config = ConfigDict(frozen=True)

    client: float
    server: float | None = None


class Gpu(BaseModel):
    """Use of all of this machine's GPUs together."""

    model_config = ConfigDict(frozen=True)

    utilization_percent: float
    peak_memory_mib: float


class Subject(BaseModel):
    """The measured detector."""

    model_config = ConfigDict(frozen=True)

    model: str
    precision: str
    checkpoint_sha256: str
    url: str | None = None
    """None: in this process."""
    runtime: str | None = None
    """None: the server doesn't report it."""
    device: str | None = None
    """As reported by the runtime or the server; None: the server doesn't report it."""
    threads: int | None = None
    """Threads of the runtime; None: one per available CPU, or the server's setting."""

    @property
    def where(self) -> str:
        """Return the runtime, or the server's address."""
        return self.url or self.runtime or "in process"


class Run(BaseModel):
    """One run of one load against one detector."""

    model_config = ConfigDict(frozen=True)

    subject: Subject
    mode: Literal["closed", "open"]
    concurrency: int | None
    """Requests in flight of a closed loop; threads of an open loop in this process; None: as many as arrive."""
    rate: float | None
    """Average rate of an open loop, in images per second."""
    round: int
    started: str
    """UTC, ISO 8601."""
    seconds: float
    complete: bool
    """Whether the run completed; if not, `stopped` is the reason."""
    stopped: str | None
    requests: int
    images: int
    """Successful requests; all means are over these."""
    images_per_second: float
    latency_ms: Latency | None
    """None: nothing was answered."""
    errors: dict[str, int]
    """By kind."""
    error_examples: dict[str, str]
    cpu_seconds_per_image: float | None
    """Of what detects: this process, or the server's processes; None: it couldn't be measured."""
    client_cpu_seconds_per_image: float | None
    """CPU time of the client alone; None if the detector runs in the same process."""
    server_measured_by: Literal["process", "metrics"] | None
    peak_memory_mib: Memory
    gpu: Gpu | None
    server_stages_ms: dict[str, float] | None
    """Mean time by stage, as reported by the server."""
    detections_per_image: float | None
    padded_shapes: dict[str, int]
    """Answered images by height×width at which the model sees them, where it doesn't use buckets."""
    masks: bool
    score_threshold: float | None
    seed: int
    warm_up_requests: int
    machine: dict[str, str | int | float]
    versions: dict[str, str]
    git_commit: str | None
    command: str

    def latency(self, name: str) -> float | None:
        """Return a percentile such as `p50`, or the `mean`, in milliseconds; None where nothing was answered."""
        value: float | None = getattr(self.latency_ms, name, None)
        return value

    @property
    def load(self) -> str:
        """Name the load, such as `4 in flight` or `5 images/s sent`."""
        return f"{self.concurrency} in flight" if self.mode == "closed" else f"{self.rate:g} images/s sent"


RUNS = TypeAdapter(list[Run])


def read_runs(file: Path) -> list[Run]:
    """Read what `--output` wrote.

    Raises:
        ParameterError: the file can't be read, or holds something else.
    """
    try:
        return RUNS.validate_json(file.read_bytes())
    except OSError as error:
        raise ParameterError(f"{file} can't be read: {error.strerror or error}.") from error
    except ValidationError as error:
        raise ParameterError(f"{file} isn't a file of `resnest bench --output`: name one.") from error


def write_runs(file: Path, runs: Sequence[Run]) -> None:
    """Write runs as JSON, so that the file is whole at any time."""
    text = json.dumps(RUNS.dump_python(list(runs), mode="json"), indent=2, ensure_ascii=False)
    beside = file.with_name(f"{file.name}.part")
    beside.write_text(f"{text}\n", encoding="utf-8")
    beside.replace(file)


def same_loads(runs: Iterable[Run]) -> list[list[Run]]:
    """Return the rounds of each load against each subject, in the order of the first."""
    groups: dict[object, list[Run]] = defaultdict(list)
    for run in runs:
        key = (run.subject.model_dump_json(), run.mode, run.concurrency, run.rate, run.masks, run.score_threshold)
        groups[key].append(run)
    return list(groups.values())
