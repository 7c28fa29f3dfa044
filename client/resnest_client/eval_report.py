"""What `resnest eval` says of a detector: JSON for machines, a table for people."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from resnest_core.card import ModelCard
from resnest_core.errors import ParameterError
from resnest_core.evaluation import FIGURES, Annotations, ImageId, Scores

COLUMNS = {"bbox": "boxes", "segm": "masks"}
MEANINGS = dict(
    zip(
        FIGURES,
        (
            "average precision, mean over IoU 0.50…0.95",
            "at IoU 0.50",
            "at IoU 0.75",
            "of small objects, below 32² pixels",
            "of medium ones",
            "of large ones, above 96² pixels",
            "average recall, one detection per image",
            "10 detections per image",
            "100 detections per image",
            "of small objects",
            "of medium ones",
            "of large ones",
        ),
        strict=True,
    )
)


@dataclass(frozen=True)
class Report:
    """The figures, and what they are of."""

    card: ModelCard | None
    """None: the detections are those of a file."""
    source: dict[str, str | None]
    """`runtime` and `device`, None where a server doesn't report them; of a server its `url`, too; or the `results`."""
    annotations: Path
    folder: Path | None
    truth: Annotations
    scores: dict[str, Scores]
    """By IoU type."""
    evaluated: list[ImageId]
    """Ids of the images that count."""
    missing: list[str]
    """Names of annotated images that aren't in the folder."""
    not_annotated: int
    """Images in the folder that aren't in the annotations."""
    unusable: dict[str, str] = field(default_factory=dict)
    """Why an image couldn't be used, by its name."""
    stopped: str | None = None
    """Why the run ended early."""

    @property
    def is_partial(self) -> bool:
        """Whether not all annotated images count."""
        return len(self.evaluated) < len(self.truth.images)

    def as_json(self, *, per_class: bool) -> dict[str, Any]:
        """Return what `--output` holds."""
        card = self.card
        answer: dict[str, Any] = {iou_type: scores.figures for iou_type, scores in self.scores.items()}
        answer["partial"] = self.is_partial
        if self.stopped:
            answer["stopped"] = self.stopped
        answer["images"] = {
            "annotated": len(self.truth.images),
            "evaluated": len(self.evaluated),
            "missing": self.missing,
            "unusable": self.unusable,
            "not_annotated": self.not_annotated,
        }
        answer["classes"] = {
            "evaluated": len(self.truth.classes.names),
            "only_in_model": list(self.truth.classes.only_in_model),
            "only_in_annotations": list(self.truth.classes.only_in_file),
        }
        answer["objects_without_mask"] = self.truth.without_mask
        answer["model"] = card and {
            "name": card.name,
            "checkpoint": card.checkpoint,
            "checkpoint_sha256": card.checkpoint_sha256,
            "precision": card.precision,
            "project_version": card.project_version,
        }
        answer |= self.source
        answer |= {
            "score_threshold": card and card.score_threshold,
            "max_detections": card and card.max_detections,
            "annotations": str(self.annotations),
            "folder": self.folder and str(self.folder),
        }
        if per_class:
            answer["per_class"] = {
                name: {"objects": objects} | aps for name, objects, aps in self._classes(only_with_objects=False)
            }
        return answer

    def save(self, path: Path, *, per_class: bool) -> None:
        """Write the JSON.

        Raises:
            ParameterError: the file can't be written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(self.as_json(per_class=per_class), indent=2) + "\n")
        except OSError as error:
            raise ParameterError(f"{path} can't be written ({error.strerror}): name another --output.") from error

    def show(self, console: Console, *, per_class: bool) -> None:
        """Print the tables."""
        count = f"{len(self.evaluated)} of the {len(self.truth.images)} images"
        where = " ".join(f"{key} {value}" for key, value in self.source.items() if value is not None)
        console.print(f"{self.card.name}, {self.card.precision}, {where}" if self.card else where, markup=False)
        console.print(
            f"{'PARTIAL: ' if self.is_partial else ''}{count} that {self.annotations} annotates", markup=False
        )
        table = Table("", *(COLUMNS[iou_type] for iou_type in self.scores), "", box=None, pad_edge=False)
        for name in FIGURES:
            values = (_shown(scores.figures[name]) for scores in self.scores.values())
            table.add_row(name, *values, MEANINGS[name])
        console.print(table)
        if per_class:
            table = Table(
                "AP of",
                Column("objects", justify="right"),
                *(COLUMNS[iou_type] for iou_type in self.scores),
                box=None,
                pad_edge=False,
            )
            for name, objects, aps in self._classes(only_with_objects=True):
                table.add_row(escape(name), str(objects), *map(_shown, aps.values()))
            console.print()
            console.print(table)

    def _classes(self, *, only_with_objects: bool) -> list[tuple[str, int, dict[str, float | None]]]:
        """Return name, number of objects and AP by IoU type of each class that is evaluated."""
        objects = self.truth.objects(self.evaluated)
        return [
            (
                name,
                objects[category],
                {iou_type: scores.ap_by_category[category] for iou_type, scores in self.scores.items()},
            )
            for category, name in self.truth.classes.names.items()
            if objects[category] or not only_with_objects
        ]


def _shown(figure: float | None) -> str:
    return "–" if figure is None else f"{figure:.3f}"
