"""From a checkpoint to a model in the repository."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

import resnest_core
from resnest_core.card import ModelCard
from resnest_core.detector import InProcessDetector
from resnest_core.errors import ModelNotFoundError, ParameterError
from resnest_core.published import PUBLISHED
from resnest_core.repository import network_path
from resnest_core.runtimes import RUNTIMES, OnnxRuntime, preferred_runtime
from resnest_export.check import check
from resnest_export.checkpoint import Checkpoint, import_weights, load_checkpoint, num_classes
from resnest_export.class_files import class_names
from resnest_export.coco_classes import category_ids
from resnest_export.deployed_detector import SCORE_THRESHOLD, DeployedDetector
from resnest_export.models import ZOO, DetectorConfig, build
from resnest_export.models.detector import TwoStageDetector
from resnest_export.models.roi_heads import MASK_ROI_SIZE
from resnest_export.precision import CALIBRATED, ENGINES_ONLY, Gate, Precision
from resnest_export.quantize import calibration_images, quantize
from resnest_export.to_onnx import export_onnx, save_with_card


def find_config(name: str) -> DetectorConfig:
    """Return the row of the table of detectors.

    Raises:
        ModelNotFoundError: there is none of this name.
    """
    if name not in ZOO:
        raise ModelNotFoundError(f"There is no detector {name!r}: use one of {', '.join(ZOO)}.")
    return ZOO[name]


def export_detector(
    name: str,
    checkpoint_path: Path,
    repository: Path,
    *,
    classes_file: Path | None = None,
    precision: Precision = Precision.FP32,
    calibration: Path | None = None,
    gate: Gate | None = None,
    max_proposals: int | None = None,
    report: Callable[[str], None] = print,
) -> Path:
    """Export the detector `name` with the weights of a checkpoint, check the file, and return its path.

    Args:
        name: a row of the table of detectors. In a precision below fp32 the model is called `<name>_<precision>`.
        checkpoint_path: mmdetection's `.pth`, the published one or somebody's own with other classes.
        repository: the model repository to write into.
        classes_file: names of the classes, one a line; None: the checkpoint's, else COCO's.
        precision: of the network.
        calibration: a folder of photographs, for int8.
        gate: what the model may lose beside the detector in fp32 with all its proposals; None: that isn't measured.
        max_proposals: regions that the box heads look at, at most; None: a thousand, as mmdetection has it.
        report: gets a line of figures per check.

    Raises:
        ModelNotFoundError: there is no such detector.
        CheckpointError: the checkpoint doesn't fit it, or is damaged.
        ParameterError: the repository can't be written to; the photographs or annotations can't be used; or an option
            would do nothing.
        InvalidModelError: the exported file doesn't answer what PyTorch answers, or doesn't pass the gate; an earlier
            file stays as it was.
        RuntimeUnavailableError, MissingExtraError: nothing here can run the precision.
    """
    config = find_config(name)
    images = calibration_of(precision, calibration)
    if gate and precision is Precision.FP32 and max_proposals is None:
        raise ParameterError("--gate compares with fp32: give --precision or --max-proposals as well.")
    checkpoint = load_checkpoint(checkpoint_path)
    for note in checkpoint.notes:
        report(note)
    whole, config = fitted(config, checkpoint, max_proposals)
    detector = build_with_weights(config, checkpoint)
    names = class_names(config.num_classes, classes_file, checkpoint)
    card = make_card(config, names, checkpoint, checkpoint_path, precision)
    is_fp32 = precision is Precision.FP32
    path = network_path(repository, card.name)
    with written_aside(path) as part, TemporaryDirectory() as folder:
        exact = part if is_fp32 else Path(folder) / "exact.onnx"
        # Runtimes quantize convolutions, not what Winograd makes of them.
        is_plain = precision in (Precision.INT8, Precision.BF16)
        export_onnx(detector, make_card(config, names, checkpoint, checkpoint_path), exact, winograd=not is_plain)
        if precision is Precision.INT8:
            quantize(exact, part, card, images)
        elif not is_fp32:
            save_with_card(onnx.load(exact), card, part)
        fastest = RUNTIMES[preferred_runtime("cpu").name]
        is_of_cpus = not is_fp32 and precision not in ENGINES_ONLY
        for line in check(part, DeployedDetector(detector), card, fastest if is_of_cpus else OnnxRuntime):
            report(line)
        if gate:
            if config != whole:
                exact = Path(folder) / "whole.onnx"
                whole_card = make_card(whole, names, checkpoint, checkpoint_path)
                export_onnx(build_with_weights(whole, checkpoint), whole_card, exact, winograd=not is_plain)
            with InProcessDetector(fastest.load(exact)) as before, InProcessDetector(fastest.load(part)) as after:
                gate.check(before, after, report)
    return path


def fitted(
    config: DetectorConfig, checkpoint: Checkpoint, max_proposals: int | None
) -> tuple[DetectorConfig, DetectorConfig]:
    """Return a row of the table with the checkpoint's number of classes: with all proposals, and with so many."""
    whole = replace(config, num_classes=num_classes(checkpoint.state_dict))
    return whole, replace(whole, max_proposals=max_proposals or whole.max_proposals)


def build_with_weights(config: DetectorConfig, checkpoint: Checkpoint) -> TwoStageDetector:
    """Build a detector with the weights of a checkpoint.

    Raises:
        CheckpointError: they don't fit.
    """
    detector = build(config)
    import_weights(detector, checkpoint.state_dict, config.name)
    return detector


def calibration_of(precision: Precision, folder: Path | None) -> list[Path]:
    """Return the images to calibrate on: none where there is nothing to calibrate."""
    if precision in CALIBRATED:
        if folder is None:
            raise ParameterError(
                f"{precision.value} needs photographs like those it will see: name their folder with --calibration."
            )
        return calibration_images(folder)
    if folder is not None:
        raise ParameterError(f"{precision.value} needs no --calibration: leave it out.")
    return []


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give the name of a file beside `path` that replaces it in the end, or goes where something went wrong."""
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise ParameterError(f"{path} can't be written ({error.strerror}): name another repository.") from error


def make_card(
    config: DetectorConfig,
    classes: tuple[str, ...],
    checkpoint: Checkpoint,
    checkpoint_path: Path,
    precision: Precision = Precision.FP32,
) -> ModelCard:
    """Return the model card; it tells the published accuracy only of the published weights, run as published."""
    row = PUBLISHED.get(config.name)
    is_whole = config.max_proposals == ZOO[config.name].max_proposals
    published = (
        row is not None
        and checkpoint.sha256.startswith(row.checkpoint_sha256_prefix)
        and precision is Precision.FP32
        and is_whole
    )
    proposals = "" if is_whole else f"The box heads look at {config.max_proposals} proposals at most."
    return ModelCard(
        name=config.name if precision is Precision.FP32 else f"{config.name}_{precision.value}",
        family=config.family,
        backbone=config.backbone,
        classes=classes,
        category_ids=category_ids(classes),
        test_scale=config.test_scale,
        score_threshold=SCORE_THRESHOLD,
        max_detections=config.max_detections,
        mask_size=2 * MASK_ROI_SIZE if config.masks else None,
        box_ap=row.box_ap if row and published else None,
        mask_ap=row.mask_ap if row and published else None,
        checkpoint=checkpoint_path.name,
        checkpoint_sha256=checkpoint.sha256,
        project_version=resnest_core.__version__,
        precision=precision.value,
        notes=" ".join(filter(None, (config.notes, proposals))),
    )
