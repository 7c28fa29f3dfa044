"""COCO's results in a file, checked against annotations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pycocotools import mask as masks
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from resnest_core.errors import ParameterError
from resnest_core.evaluation.annotated_masks import run_lengths
from resnest_core.evaluation.annotations import Annotations, ImageId, Number
from resnest_core.messages import named


class _Result(BaseModel):
    image_id: ImageId
    category_id: int
    score: Number
    bbox: list[Number] | None = Field(default=None, min_length=4, max_length=4)
    segmentation: Any = None


RESULTS = TypeAdapter(list[_Result])


def read_results(path: Path, truth: Annotations) -> list[dict[str, Any]]:
    """Read COCO's results with the annotations' ids; a list of nothing is one.

    Each row has `bbox`, of the mask if the file has none; `segmentation` is there if all rows have it.

    Raises:
        ParameterError: the file can't be read or is no list of results, or has images or categories that aren't in the
            annotations.
    """
    try:
        results = RESULTS.validate_python(json.loads(path.read_bytes()))
    except OSError as error:
        raise ParameterError(f"The results {path} can't be read ({error.strerror}).") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise ParameterError(f"{path} is no list of COCO's results: {where}: {first['msg'].lower()}.") from error
    except (ValueError, RecursionError) as error:
        raise ParameterError(f"{path} is not JSON, or not all of it: name a file of COCO's results.") from error
    images = {str(image.id): image for image in truth.images}
    _refuse("images", path, {str(one.image_id) for one in results} - images.keys())
    _refuse("categories", path, {one.category_id for one in results} - truth.classes.names.keys())
    with_masks = all(one.segmentation for one in results)
    rows = []
    for place, one in enumerate(results):
        image = images[str(one.image_id)]
        row: dict[str, Any] = {"image_id": image.id, "category_id": one.category_id, "score": one.score}
        if with_masks or one.bbox is None:
            try:
                row["segmentation"] = run_lengths(one.segmentation, image.size_hw)
            except ValueError:
                row["segmentation"] = None
            if row["segmentation"] is None:
                raise ParameterError(f"Result {place} of {path} has neither a box nor a mask of its image's size.")
        row["bbox"] = masks.toBbox(row["segmentation"]).tolist() if one.bbox is None else one.bbox
        rows.append(row)
    return rows


def _refuse(what: str, path: Path, unknown: set[Any]) -> None:
    if unknown:
        raise ParameterError(
            f"{path} has results of {what} that the annotations don't list, with the ids {named(sorted(unknown))}: "
            "name the annotations that they are of."
        )
