"""COCO's annotations, checked against the model that is evaluated."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pycocotools.coco import COCO
from pydantic import BaseModel, Field, ValidationError

from resnest_core.card import ModelCard
from resnest_core.errors import ParameterError
from resnest_core.evaluation.class_match import ClassMatch, match_classes
from resnest_core.messages import named


@dataclass(frozen=True)
class AnnotatedImage:
    """An image that is annotated; (height, width) in pixels."""

    id: int
    file_name: str
    size_hw: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Annotations:
    """What is in the images."""

    images: tuple[AnnotatedImage, ...]
    classes: ClassMatch
    """Which of the file's categories are which of the model's classes."""
    has_masks: bool
    """Whether both the model and the annotations have masks."""
    coco: COCO

    @property
    def category_ids(self) -> tuple[int, ...]:
        """The file's ids of the classes that are evaluated, sorted."""
        return tuple(sorted(self.classes.names))

    @property
    def iou_types(self) -> tuple[str, ...]:
        """`bbox`, and `segm` where there are masks."""
        return ("bbox", "segm") if self.has_masks else ("bbox",)

    def objects(self, image_ids: Collection[int]) -> Counter[int]:
        """Return how many objects of each of the file's ids are in some of the images; crowds don't count."""
        found = self.coco.getAnnIds(imgIds=list(image_ids), iscrowd=False) if image_ids else []
        return Counter(one["category_id"] for one in self.coco.loadAnns(found))

    def find(self, folder: Path) -> tuple[list[tuple[AnnotatedImage, Path]], list[AnnotatedImage]]:
        """Return the images that are in a folder, each with its file, and those that aren't.

        Raises:
            ParameterError: there is no such folder, or none of the images is in it.
        """
        if not folder.is_dir():
            raise ParameterError(f"There is no folder {folder}.")
        present, missing = [], []
        for image in self.images:
            file = folder / image.file_name
            if file.is_file():
                present.append((image, file))
            else:
                missing.append(image)
        if not present:
            raise ParameterError(
                f"None of the {len(missing)} annotated images is in {folder}, not even {missing[0].file_name}: "
                "name the folder that holds them."
            )
        return present, missing


Number = Annotated[float, Field(allow_inf_nan=False)]


class _Image(BaseModel):
    id: int
    file_name: str
    height: int = Field(gt=0)
    width: int = Field(gt=0)


class _Object(BaseModel):
    image_id: int
    category_id: int
    bbox: list[Number] = Field(min_length=4, max_length=4)
    area: Number
    iscrowd: int = 0
    segmentation: Any = None


class _Category(BaseModel):
    id: int
    name: str


class _File(BaseModel):
    images: list[_Image]
    annotations: list[_Object]
    categories: list[_Category]


def read_annotations(path: Path, card: ModelCard) -> Annotations:
    """Read COCO's instances from JSON, for a model with this card.

    Raises:
        ParameterError: the file can't be read or isn't such annotations, or has none of the model's classes.
    """
    file = _parsed(path)
    if not file.images:
        raise ParameterError(f"{path} lists no images: there is nothing to evaluate.")
    ids = Counter(image.id for image in file.images)
    image_id, count = ids.most_common(1)[0]
    if count > 1:
        raise ParameterError(f"{path} has {count} images with the id {image_id}: ids must be their own.")
    for image in file.images:
        if Path(image.file_name).is_absolute() or ".." in Path(image.file_name).parts:
            raise ParameterError(f"{path} names the image {image.file_name}, which is outside any folder of images.")
    objects = [one for one in file.annotations if one.image_id in ids]
    if not objects:
        raise ParameterError(f"{path} annotates no object in its images: there is nothing to find.")
    categories = _categories(path, file)
    unlisted = sorted({one.category_id for one in objects} - categories.keys())
    if unlisted:
        raise ParameterError(f"{path} has objects of categories that it doesn't list, with the ids {named(unlisted)}.")
    classes = match_classes(categories, card, str(path))
    objects = [one for one in objects if one.category_id in classes.names]
    if not objects:
        raise ParameterError(
            f"{path} annotates no object of the classes that the model {card.name} has too, "
            f"{named(list(classes.names.values()))}: there is nothing to find."
        )
    has_masks = card.has_masks and any(one.segmentation for one in objects)
    coco = _index(path, file, objects, has_masks)
    return Annotations(
        images=tuple(AnnotatedImage(one.id, one.file_name, (one.height, one.width)) for one in file.images),
        classes=classes,
        has_masks=has_masks,
        coco=coco,
    )


def _parsed(path: Path) -> _File:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ParameterError(f"The annotations {path} can't be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise ParameterError(f"{path} is not JSON, or not all of it: name a file of COCO's annotations.") from error
    try:
        return _File.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise ParameterError(
            f"{path} is no file of COCO's annotations of objects: {where}: {first['msg'].lower()}."
        ) from error


def _categories(path: Path, file: _File) -> dict[int, str]:
    """Return the categories' names by id; both tell them apart."""
    names = Counter(category.name for category in file.categories)
    ids = Counter(category.id for category in file.categories)
    for what, counts in (("name", names), ("id", ids)):
        twice = [one for one, count in counts.items() if count > 1]
        if twice:
            raise ParameterError(
                f"{path} has several categories of the same {what}, {named(twice)}: give each a {what} of its own."
            )
    return {category.id: category.name for category in file.categories}


def _index(path: Path, file: _File, objects: Sequence[_Object], has_masks: bool) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": [image.model_dump() for image in file.images],
        "categories": [category.model_dump() for category in file.categories],
        # Numbered anew: to pycocotools an object with the id 0 is one that wasn't found.
        "annotations": [{"id": number, **one.model_dump()} for number, one in enumerate(objects, 1)],
    }
    with redirect_stdout(io.StringIO()):
        coco.createIndex()
    for one in coco.dataset["annotations"]:
        if not has_masks:
            del one["segmentation"]
            continue
        image = coco.imgs[one["image_id"]]
        try:
            one["segmentation"] = coco.annToRLE(one)
            right = list(one["segmentation"]["size"]) == [image["height"], image["width"]]
        except Exception:  # pycocotools raises many classes on damaged annotations
            right = False
        if not right:
            raise ParameterError(
                f"In {path} an object of the image {image['file_name']} has no mask, where others have: its "
                "segmentation is neither polygons nor run lengths of the image's size."
            )
    return coco
