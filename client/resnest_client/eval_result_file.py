"""`resnest eval` of detections that are there already, in COCO's results format."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from resnest_client.eval_report import Report
from resnest_core.evaluation import compare, read_annotations, read_results


def report_of_results(annotations: Path, results: Path, console: Console) -> Report:
    """Compare a file of results with all annotated images.

    Raises:
        ParameterError: one of the files can't be read, or the results are of other images or categories.
    """
    truth = read_annotations(annotations, None)
    rows = read_results(results, truth)
    ids = [image.id for image in truth.images]
    has_masks = truth.has_masks and all("segmentation" in row for row in rows)
    with console.status("Comparing with the annotations"):
        scores = {
            iou_type: compare(truth, rows, iou_type, ids)
            for iou_type in truth.iou_types
            if iou_type == "bbox" or has_masks
        }
    return Report(
        card=None,
        source={"results": str(results)},
        annotations=annotations,
        folder=None,
        truth=truth,
        scores=scores,
        evaluated=ids,
        missing=[],
        not_annotated=0,
    )
