"""From a checkpoint to a model in the repository."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import resnest_core
from resnest_core.card import ModelCard
from resnest_core.errors import ModelNotFoundError, ParameterError
from resnest_core.published import PUBLISHED
from resnest_core.repository import network_path
from resnest_export.check import check
from resnest_export.checkpoint import Checkpoint, class_names, import_weights, load_checkpoint, num_classes
from resnest_export.coco_classes import category_ids
from resnest_export.deployed import SCORE_THRESHOLD, DeployedDetector
from resnest_export.models import ZOO, DetectorConfig, build
from resnest_export.models.roi_heads import MASK_ROI_SIZE
from resnest_export.to_onnx import export_onnx


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
    report: Callable[[str], None] = print,
) -> Path:
    """Export the detector `name` with the weights of a checkpoint, check the file, and return its path.

    Args:
        name: a row of the table of detectors.
        checkpoint_path: mmdetection's `.pth`, the published one or somebody's own with other classes.
        repository: the model repository to write into.
        classes_file: names of the classes, one a line; None: the checkpoint's, else COCO's.
        report: gets a line of figures per check.

    Raises:
        ModelNotFoundError: there is no such detector.
        CheckpointError: the checkpoint doesn't fit it, or is damaged.
        ParameterError: the repository can't be written to.
        InvalidModelError: the exported file doesn't answer what PyTorch answers; an earlier file stays as it was.
    """
    config = find_config(name)
    checkpoint = load_checkpoint(checkpoint_path)
    count = num_classes(checkpoint.state_dict)
    config = replace(config, num_classes=count)
    detector = build(config)
    import_weights(detector, checkpoint.state_dict, name)
    card = make_card(config, class_names(count, classes_file, checkpoint), checkpoint, checkpoint_path)
    path = network_path(repository, name)
    with _written_aside(path) as part:
        export_onnx(detector, card, part)
        for line in check(part, DeployedDetector(detector), card):
            report(line)
    return path


@contextmanager
def _written_aside(path: Path) -> Iterator[Path]:
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
    config: DetectorConfig, classes: tuple[str, ...], checkpoint: Checkpoint, checkpoint_path: Path
) -> ModelCard:
    """Return the model card; it tells the published accuracy only of the published weights."""
    row = PUBLISHED.get(config.name)
    published = row is not None and checkpoint.sha256.startswith(row.checkpoint_sha256_prefix)
    return ModelCard(
        name=config.name,
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
        notes=config.notes,
    )
