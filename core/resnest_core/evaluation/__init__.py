"""A detector's accuracy on annotated images: COCO's average precision and recall, for boxes and masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from resnest_core.card import ModelCard
from resnest_core.detections import Detections
from resnest_core.detector import Detector
from resnest_core.errors import ImageError
from resnest_core.evaluation.annotations import AnnotatedImage, Annotations, ImageId, read_annotations, read_image_ids
from resnest_core.evaluation.class_match import ClassMatch
from resnest_core.evaluation.figures import FIGURES, Figures, Scores, compare
from resnest_core.evaluation.result_files import read_results
from resnest_core.formats import coco

__all__ = [
    "FIGURES",
    "AnnotatedImage",
    "Annotations",
    "ClassMatch",
    "Figures",
    "ImageId",
    "Scores",
    "compare",
    "evaluate",
    "read_annotations",
    "read_image_ids",
    "read_results",
    "results",
]


def evaluate(
    detector: Detector, annotations: Path, images: Path, *, on_image: Callable[[int, int], None] | None = None
) -> dict[str, Figures]:
    """Return `{"bbox": figures, "segm": figures}`, each figure in 0…1, of a detector at its own score threshold.

    `segm` is there if the model and the annotations have masks. Annotated images that aren't in the folder are left
    out, and so is what else is in it.

    Args:
        detector: in this process or behind a server; it is asked for one image after the other.
        annotations: COCO's instances in JSON; its categories are matched with the classes by name.
        images: the folder of the images.
        on_image: told after each image how many are done, of how many.

    Raises:
        ParameterError: the annotations can't be used, have no class of the model's, or no image is there.
        ImageError: an image can't be used, or isn't of the size that the annotations say.
    """
    truth = read_annotations(annotations, detector.card)
    present, _ = truth.find(images)
    rows: list[dict[str, Any]] = []
    for done, (image, file) in enumerate(present, 1):
        rows += results(detector.detect(file, masks=truth.has_masks), detector.card, image)
        if on_image:
            on_image(done, len(present))
    ids = [image.id for image, _ in present]
    return {iou_type: compare(truth, rows, iou_type, ids).figures for iou_type in truth.iou_types}


def results(found: Detections, card: ModelCard, image: AnnotatedImage) -> list[dict[str, Any]]:
    """Return an image's detections as COCO's results with the card's ids, with masks where the detections have them.

    Raises:
        ImageError: the image isn't of the size that the annotations say, so that nothing in it would match.
    """
    if found.image_size_hw != image.size_hw:
        height, width = found.image_size_hw
        raise ImageError(
            f"The image is {width}×{height} pixels, but {image.size_hw[1]}×{image.size_hw[0]} in the annotations: "
            "use the images that were annotated."
        )
    return coco(found, card, image_id=image.id)
