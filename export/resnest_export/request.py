"""Parameters of `resnest export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from resnest_core.card import check_model_name
from resnest_core.errors import ParameterError
from resnest_core.published import PUBLISHED
from resnest_export.precision import CALIBRATED, Gate, Precision


@dataclass(frozen=True)
class ExportRequest:
    """Detector, weights and options of an export, and the model to write.

    Creating a request reads no files; `resnest_export.pipeline.ExportSource` does.

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
        gate: permitted loss of accuracy against the fp32 detector with all proposals; None: not measured.
        max_proposals: maximum number of regions for the box heads; None: the configuration's.
        max_detections: maximum number of detections per image; None: the configuration's.
        winograd: whether wide convolutions use Winograd's algorithm in the ONNX file: for CPUs; bf16 and int8 never do.

    Raises:
        ParameterError: the name isn't a valid model name, or is another published detector's; a precision lacks a
            required option; or an option would have no effect.
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
    winograd: bool = True

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
        # Reports list the published accuracy under these names.
        if self.name in PUBLISHED and self.name != self.detector:
            raise ParameterError(
                f"{self.name} is another published detector than {self.detector or 'yours'}: choose another name."
            )
