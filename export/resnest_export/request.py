"""What `resnest export` is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from resnest_core.card import check_model_name
from resnest_core.errors import ParameterError
from resnest_core.published import PUBLISHED
from resnest_export.precision import CALIBRATED, Gate, Precision


@dataclass(frozen=True)
class ExportRequest:
    """Which detector is exported with which weights, and into which model of a repository.

    Nothing is read to make one; `resnest_export.pipeline.ExportSource` reads the files.

    Attributes:
        detector: a row of the table of detectors; None: the configuration decides alone.
        checkpoint: mmdetection's `.pth`, the published one or a fine-tuned one with other classes.
        repository: the model repository to write into.
        name: the model's own name; None: the detector's.
        config: mmdetection's configuration; None: the one in the checkpoint, else that of the detector's row.
        classes_file: names of the classes, one a line; None: the configuration's, the checkpoint's, else COCO's.
        category_ids: the classes' ids, numbers between commas or a file; None: COCO's, or 1…N.
        use_ema: whether the checkpoint's averaged weights are exported.
        precision: of the network.
        calibration: a folder of photographs, for int8 and fp8.
        gate: what the model may lose beside the detector in fp32 with all its proposals; None: that isn't measured.
        max_proposals: regions that the box heads look at, at most; None: as the configuration has it.
        max_detections: of an image, at most; None: as the configuration has it.

    Raises:
        ParameterError: the name can't be a model's, or is another published detector's; a precision lacks what it
            needs; or an option would do nothing.
    """

    detector: str | None
    checkpoint: Path
    repository: Path
    name: str | None = None
    config: Path | None = None
    classes_file: Path | None = None
    category_ids: str | None = None
    use_ema: bool = False
    precision: Precision = Precision.FP32
    calibration: Path | None = None
    gate: Gate | None = None
    max_proposals: int | None = None
    max_detections: int | None = None

    def __post_init__(self) -> None:
        self._check_name()
        precision = self.precision.value
        if self.precision in CALIBRATED and self.calibration is None:
            raise ParameterError(
                f"{precision} needs photographs like those it will see: name their folder with --calibration."
            )
        if self.precision not in CALIBRATED and self.calibration is not None:
            raise ParameterError(f"{precision} needs no --calibration: leave it out.")
        if self.gate and self.precision is Precision.FP32 and self.max_proposals is None:
            raise ParameterError("--gate compares with fp32: give --precision or --max-proposals as well.")

    def _check_name(self) -> None:
        if self.name is None:
            return
        check_model_name(self.name)
        # Published accuracy is listed under these names.
        if self.name in PUBLISHED and self.name != self.detector:
            raise ParameterError(
                f"{self.name} is the name of another detector than {self.detector or 'yours'}: use one of your own."
            )
