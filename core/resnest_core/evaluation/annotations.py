"""COCO's annotations, checked against the model that is evaluated."""

from __future__ import annotations

import io
import json
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any, TypeAlias, TypeVar

from pycocotools.coco import COCO
from pydantic import BaseModel, Field, ValidationError

from resnest_core.card import ModelCard
from resnest_core.errors import ParameterError
from resnest_core.evaluation import annotated_masks
from resnest_core.evaluation.class_match import ClassMatch, all_classes, match_classes
from resnest_core.messages import named

ImageId: TypeAlias = int | str
"""As the file has it: COCO's are numbers, others' may be texts."""


@dataclass(frozen=True)
class AnnotatedImage:
    """An image that is annotated; (height, width) in pixels."""

    id: ImageId
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
    numbers: Mapping[ImageId, int]
    """The images' numbers in `indices`, by the file's id."""
    indices: Mapping[str, COCO]
    """The objects by IoU type: `bbox`, and `segm` where there are masks."""
    without_mask: int
    """Objects that are among the boxes and not among the masks, because they have no segmentation."""

    @property
    def category_ids(self) -> tuple[int, ...]:
        """The file's ids of the classes that are evaluated, sorted."""
        return tuple(sorted(self.classes.names))

    @property
    def iou_types(self) -> tuple[str, ...]:
        """`bbox`, and `segm` where there are masks."""
        return tuple(self.indices)

    def objects(self, image_ids: Collection[ImageId]) -> Counter[int]:
        """Return how many objects of each of the file's ids are in some of the images; crowds don't count."""
        coco = self.indices["bbox"]
        found = coco.getAnnIds(imgIds=[self.numbers[id_] for id_ in image_ids], iscrowd=False) if image_ids else []
        return Counter(one["category_id"] for one in coco.loadAnns(found))

    def find(self, folder: Path) -> tuple[list[tuple[AnnotatedImage, Path]], list[AnnotatedImage]]:
        """Return the images that are in a folder, each with its file, and those that aren't.

        Raises:
            ParameterError: there is no such folder, or none of the images is in it.
        """
        if not folder.is_dir():
            raise ParameterError(f"There is no folder {folder}.")
        present, missing = [], []
        for image in self.images:
            file = next((file for file in _places(folder, image.file_name) if file.is_file()), None)
            if file is None:
                missing.append(image)
            else:
                present.append((image, file))
        if not present:
            raise ParameterError(
                f"None of the {len(missing)} annotated images is in {folder}, not even {missing[0].file_name}: "
                "name the folder that holds them."
            )
        return present, missing


Content = TypeVar("Content", bound=BaseModel)
Number = Annotated[float, Field(allow_inf_nan=False)]


class _NamedImage(BaseModel):
    id: ImageId
    file_name: str


class _Image(_NamedImage):
    height: int = Field(gt=0)
    width: int = Field(gt=0)


class _Object(BaseModel):
    image_id: ImageId
    category_id: int
    bbox: list[Number] = Field(min_length=4, max_length=4)
    area: Number | None = None
    iscrowd: int | None = None
    segmentation: Any = None


class _Category(BaseModel):
    id: int
    name: str


class _Images(BaseModel):
    images: list[_NamedImage]


class _File(BaseModel):
    images: list[_Image]
    annotations: list[_Object]
    categories: list[_Category]


def read_annotations(path: Path, card: ModelCard | None) -> Annotations:
    """Read COCO's instances from JSON, for a model with this card; None: all their categories and masks.

    Raises:
        ParameterError: the file can't be read or isn't such annotations, or has none of the model's classes.
    """
    file = _parsed(path, _File)
    if not file.images:
        raise ParameterError(f"{path} lists no images: there is nothing to evaluate.")
    # Tools that write ids as text in one place write them as numbers in another.
    numbers = _numbers(path, [image.id for image in file.images])
    for image in file.images:
        if _is_outside(image.file_name):
            raise ParameterError(f"{path} names the image {image.file_name}, which is outside any folder of images.")
    objects = [one for one in file.annotations if str(one.image_id) in numbers]
    if not objects:
        raise ParameterError(f"{path} annotates no object in its images: there is nothing to find.")
    categories = _categories(path, file)
    unlisted = sorted({one.category_id for one in objects} - categories.keys())
    if unlisted:
        raise ParameterError(f"{path} has objects of categories that it doesn't list, with the ids {named(unlisted)}.")
    classes = all_classes(categories) if card is None else match_classes(categories, card, str(path))
    objects = [one for one in objects if one.category_id in classes.names]
    if card and not objects:
        raise ParameterError(
            f"{path} annotates no object of the classes that the model {card.name} has too, "
            f"{named(list(classes.names.values()))}: there is nothing to find."
        )
    rows = _rows(path, file, objects, numbers, with_masks=card is None or card.has_masks)
    masked = [row for row in rows if row.get("segmentation")]
    indices = {"bbox": _index(file, [{**row, "segmentation": None} for row in rows])}
    if masked:
        indices["segm"] = _index(file, masked)
    return Annotations(
        images=tuple(AnnotatedImage(one.id, one.file_name, (one.height, one.width)) for one in file.images),
        classes=classes,
        has_masks=bool(masked),
        numbers={image.id: numbers[str(image.id)] for image in file.images},
        indices=indices,
        without_mask=len(rows) - len(masked) if masked else 0,
    )


def read_image_ids(path: Path) -> dict[str, ImageId]:
    """Read the ids of COCO's images by their `file_name`; what is annotated in them isn't looked at.

    Raises:
        ParameterError: the file can't be read or lists no images, or several have the same name or id.
    """
    images = _parsed(path, _Images).images
    if not images:
        raise ParameterError(f"{path} lists no images: name annotations that do.")
    _numbers(path, [image.id for image in images])
    name, count = Counter(image.file_name for image in images).most_common(1)[0]
    if count > 1:
        raise ParameterError(f"{path} has {count} images with the file_name {name}: names must be their own.")
    return {image.file_name: image.id for image in images}


def _places(folder: Path, file_name: str) -> list[Path]:
    """Return where a file may be that was named on another system: with backslashes, or accents composed otherwise."""
    names = (file_name, file_name.replace("\\", "/"))
    forms = (
        name if form is None else unicodedata.normalize(form, name) for form in (None, "NFC", "NFD") for name in names
    )
    return [folder / name for name in dict.fromkeys(forms)]


def _is_outside(file_name: str) -> bool:
    windows = PureWindowsPath(file_name)
    is_windows = "\\" in file_name and bool(windows.drive or windows.root)
    return is_windows or Path(file_name).is_absolute() or ".." in windows.parts


def _numbers(path: Path, ids: Sequence[ImageId]) -> dict[str, int]:
    """Return the place of each id, as a text.

    Raises:
        ParameterError: an id is there more than once.
    """
    id_, count = Counter(map(str, ids)).most_common(1)[0]
    if count > 1:
        raise ParameterError(f"{path} has {count} images with the id {id_}: ids must be their own.")
    return {str(id_): number for number, id_ in enumerate(ids, 1)}


def _parsed(path: Path, kind: type[Content]) -> Content:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ParameterError(f"The annotations {path} can't be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise ParameterError(f"{path} is not JSON, or not all of it: name a file of COCO's annotations.") from error
    try:
        return kind.model_validate(content)
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


def _rows(
    path: Path, file: _File, objects: Sequence[_Object], numbers: Mapping[str, int], *, with_masks: bool
) -> list[dict[str, Any]]:
    """Return the objects as pycocotools takes them; their segmentation, if they have any and it counts, as run lengths.

    Raises:
        ParameterError: a segmentation is neither polygons nor run lengths of the image's size.
    """
    rows = []
    # Numbered anew: to pycocotools an object with the id 0 is one that wasn't found.
    for number, one in enumerate(objects, 1):
        image_number = numbers[str(one.image_id)]
        image = file.images[image_number - 1]
        lengths = None
        if with_masks or one.area is None:
            try:
                lengths = annotated_masks.run_lengths(one.segmentation, (image.height, image.width))
            except ValueError as error:
                raise ParameterError(
                    f"In {path} an object of the image {image.file_name} has no mask: its segmentation is neither "
                    "polygons nor run lengths of the image's size; correct it, or leave its segmentation out."
                ) from error
        area = one.area
        if area is None:
            area = one.bbox[2] * one.bbox[3] if lengths is None else annotated_masks.area(lengths)
        rows.append(
            {
                "id": number,
                "image_id": image_number,
                "category_id": one.category_id,
                "bbox": one.bbox,
                "area": area,
                "iscrowd": one.iscrowd or 0,
                "segmentation": lengths if with_masks else None,
            }
        )
    return rows


def _index(file: _File, rows: list[dict[str, Any]]) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": [{**image.model_dump(), "id": number} for number, image in enumerate(file.images, 1)],
        "categories": [category.model_dump() for category in file.categories],
        "annotations": rows,
    }
    with redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco
