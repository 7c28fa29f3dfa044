"""The table's rows, the file that keeps them, and their Markdown."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from resnest_core.errors import ParameterError

MARK = "row: "
"""Begins the line in which a process prints its row."""


class Run(BaseModel):
    """Batches of one size, one after the other, with the copies to and from the GPU."""

    model_config = ConfigDict(frozen=True)

    batch: int
    images_per_second: float
    latency_ms: float
    """Median time of a batch."""
    of_roofline: float | None
    """The roofline's time ÷ the median; None: the GPU's peak isn't known."""


class Row(BaseModel):
    """An engine on a GPU; `error` says why there are no figures."""

    model_config = ConfigDict(frozen=True)

    gpu: str
    library: str
    """Such as `TensorRT 10.13.3.9`."""
    model: str
    precision: str
    gflop: float = 0
    """Of an image: convolutions and matrix products."""
    build_seconds: float = 0
    memory_gib: float = 0
    """Of the GPU's memory that the engine, its buffers and its contexts take."""
    runs: tuple[Run, ...] = ()
    detections: int = 0
    found_again: float = 0
    """Share of the detections of the network in fp32, in ONNX Runtime on the CPU."""
    score_difference: float = 0
    box_difference: float = 0
    """In pixels."""
    error: str | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """What a row is of: a row that has figures isn't measured again."""
        return (self.gpu, self.library, self.model, self.precision)


class Results(BaseModel):
    """The rows of a file."""

    rows: list[Row] = []

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read a file; without one there are no rows yet.

        Raises:
            ParameterError: it holds something else.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return cls()
        except (OSError, ValidationError) as error:
            raise ParameterError(f"{path} isn't a file of results: name another one.") from error

    def has(self, row: Row) -> bool:
        """Return whether a row has been measured without an error."""
        return any(each.key == row.key and each.error is None for each in self.rows)

    def add(self, row: Row, path: Path) -> None:
        """Add a row in place of an earlier one of the same key, and write the file at once."""
        self.rows = [*(each for each in self.rows if each.key != row.key), row]
        part = path.with_name(f"{path.name}.part")
        part.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        part.replace(path)


HEAD = (
    "model",
    "precision",
    "GFLOP",
    "build, s",
    "batch",
    "images/s",
    "latency, ms",
    "of the roofline",
    "memory, GiB",
    "found again, of fp32",
    "scores within",
    "boxes within, px",
)


def markdown(results: Results) -> str:
    """Return a table for each GPU and library, a row per batch size."""
    tables = []
    for where in dict.fromkeys((row.gpu, row.library) for row in results.rows):
        lines = [" | ".join(HEAD), "|".join(["---"] * len(HEAD))]
        for row in results.rows:
            if (row.gpu, row.library) == where:
                lines += [" | ".join(cells) for cells in _cells(row)]
        tables.append(f"{', '.join(where)}:\n\n" + "\n".join(f"| {line} |" for line in lines))
    return "\n\n".join(tables)


def _cells(row: Row) -> list[tuple[str, ...]]:
    name = (f"`{row.model}`", row.precision)
    if row.error is not None:
        return [(*name, f"not run: {row.error}", *[""] * (len(HEAD) - 3))]
    return [
        (
            *name,
            f"{row.gflop:.0f}",
            f"{row.build_seconds:.0f}",
            str(run.batch),
            f"{run.images_per_second:.3g}",
            f"{run.latency_ms:.3g}",
            "–" if run.of_roofline is None else f"{run.of_roofline:.0%}",
            f"{row.memory_gib:.2f}",
            f"{row.found_again:.0%} of {row.detections}",
            f"{row.score_difference:.1e}",
            f"{row.box_difference:.1e}",
        )
        for run in row.runs
    ]
