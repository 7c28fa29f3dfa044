"""The result of detecting objects in one image.

What draws and converts is imported when it is used: Triton's models, which only pass arrays on, lack its packages.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from resnest_core.card import ModelCard
from resnest_core.colors import DRAWING_THRESHOLD, ColorBy
from resnest_core.errors import ParameterError
from resnest_core.images import Color, Image, Pixels, load_image
from resnest_core.masks import THRESHOLD, paste
from resnest_core.messages import shortened

if TYPE_CHECKING:
    import pandas
    import supervision

PICTURE_SIDE = 1024  # pixels of a notebook's picture at most


@dataclass(frozen=True, eq=False)
class Detection:
    """One object.

    Attributes:
        box_xyxy: x1 y1 x2 y2 in pixels of the original image.
        score: 0…1.
        label: index into the model card's `classes`.
        class_name: that class.
        mask: float16 (S, S), probability of the class over the box, row by row; None without masks.
        image_size_hw: (height, width) of the original image in pixels.
        mask_threshold: probability from which a pixel belongs to the mask.
    """

    box_xyxy: tuple[float, float, float, float]
    score: float
    label: int
    class_name: str
    mask: NDArray[np.float16] | None = field(repr=False)
    image_size_hw: tuple[int, int] = field(repr=False)
    mask_threshold: float = field(repr=False)

    def mask_in_box(self) -> tuple[NDArray[np.bool_], tuple[int, int]]:
        """Return the mask over its box, bool (h, w), and the (x, y) of its corner in the image.

        Raises:
            ParameterError: there is no mask.
        """
        if self.mask is None:
            raise ParameterError("This detection has no mask: use a model with masks, and masks=True.")
        box = np.array(self.box_xyxy, np.float32)
        return paste(self.mask, box, self.image_size_hw, threshold=self.mask_threshold)

    def mask_full(self) -> NDArray[np.bool_]:
        """Return the mask over the whole image, bool (H, W).

        Raises:
            ParameterError: there is no mask.
        """
        crop, (x, y) = self.mask_in_box()
        full = np.zeros(self.image_size_hw, bool)
        full[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
        return full


@dataclass(frozen=True, eq=False, repr=False)
class Detections(Sequence[Detection]):
    """The detections in one image, best score first: a sequence of `Detection`, as arrays.

    Attributes:
        boxes_xyxy: float32 (N, 4), x1 y1 x2 y2 in pixels of the original image.
        scores: float32 (N,), 0…1.
        labels: int64 (N,), indices into the model card's `classes`.
        masks: float16 (N, S, S), probability of the predicted class over the box, row by row; None without masks.
        image_size_hw: (height, width) of the original image in pixels.
        card: the model's card, which has the classes' names; None where the arrays are all that is known.
        image: the image as it was passed to `detect`, which `plot` and `save` draw into: not a copy.
        color: the order of the channels, if the image is an array.
        track_ids: int64 (N,), numbers of objects in a video, −1 for those without; None where nothing was tracked.

    Raises:
        ParameterError: the arrays' shapes are inconsistent.
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    masks: NDArray[np.float16] | None
    image_size_hw: tuple[int, int]
    card: ModelCard | None = None
    image: Image | None = None
    color: Color = "rgb"
    track_ids: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        count = len(self.scores)
        shapes_agree = self.boxes_xyxy.shape == (count, 4) and self.labels.shape == self.scores.shape == (count,)
        masks_agree = self.masks is None or (self.masks.ndim == 3 and len(self.masks) == count)
        if not (shapes_agree and masks_agree):
            found = [None if a is None else a.shape for a in (self.boxes_xyxy, self.scores, self.labels, self.masks)]
            raise ParameterError(f"Boxes, scores, labels and masks must agree on N, but have the shapes {found}.")

    def __len__(self) -> int:
        return len(self.scores)

    @overload
    def __getitem__(self, keep: int) -> Detection: ...
    @overload
    def __getitem__(self, keep: slice | str | Sequence[int] | NDArray[np.bool_] | NDArray[np.int64]) -> Detections: ...
    def __getitem__(
        self, keep: int | slice | str | Sequence[int] | NDArray[np.bool_] | NDArray[np.int64]
    ) -> Detection | Detections:
        """Return one detection, or those of a class, of a slice, of a boolean array (N,) or of indices.

        Raises:
            IndexError: there are fewer detections.
            ParameterError: the model has no class of this name.
        """
        if isinstance(keep, int | np.integer):
            return self._one(int(keep))
        rows: Any = self.labels == self._label(keep) if isinstance(keep, str) else keep
        if isinstance(rows, Sequence) and not rows:
            rows = np.zeros(0, np.int64)  # NumPy takes an empty list for numbers of floating point
        return replace(
            self,
            boxes_xyxy=self.boxes_xyxy[rows],
            scores=self.scores[rows],
            labels=self.labels[rows],
            masks=None if self.masks is None else self.masks[rows],
            track_ids=None if self.track_ids is None else self.track_ids[rows],
        )

    def __iter__(self) -> Iterator[Detection]:
        return (self._one(index) for index in range(len(self)))

    def __repr__(self) -> str:
        """Such as `12 detections in 640×480: 3 person, 9 dog`, the most frequent class first."""
        height, width = self.image_size_hw
        counts = Counter(self.class_names if self.card else [f"label {label}" for label in self.labels.tolist()])
        listed = ", ".join(f"{count} {name}" for name, count in counts.most_common())
        noun = "detection" if len(self) == 1 else "detections"
        return f"{len(self)} {noun} in {width}×{height}" + (f": {listed}" if listed else "")

    def _repr_html_(self) -> str:
        """Return a notebook's view: the counts, and the drawn image where it is at hand."""
        from html import escape

        from resnest_core import drawing

        text = f"<p>{escape(repr(self))}</p>"
        if self.image is None:
            return text
        pixels = self.plot()
        scale = min(PICTURE_SIDE / max(pixels.shape[:2]), 1.0)
        picture = drawing.encode(drawing.scaled(pixels, scale), "image/jpeg")
        return f'{text}<img alt="" src="data:image/jpeg;base64,{base64.b64encode(picture).decode()}">'

    @property
    def class_names(self) -> list[str]:
        """The class of each detection.

        Raises:
            ParameterError: the detections have no card.
        """
        classes = self._card().classes
        return [classes[label] for label in self.labels.tolist()]

    def masks_in_boxes(self) -> list[tuple[NDArray[np.bool_], tuple[int, int]]]:
        """Return each mask over its box, bool (h, w), and the (x, y) of its corner: as many bytes as the boxes' pixels.

        Raises:
            ParameterError: there are no masks.
        """
        pasted = partial(paste, image_size_hw=self.image_size_hw, threshold=self._mask_threshold)
        return [pasted(mask, box) for mask, box in zip(self._masks(), self.boxes_xyxy, strict=True)]

    def masks_full(self) -> NDArray[np.bool_]:
        """Return the masks over the whole image, bool (N, H, W): N·H·W bytes, 100 masks of 4000×3000 take 1.2 GB.

        Raises:
            ParameterError: there are no masks.
        """
        self._masks()
        full = np.zeros((len(self), *self.image_size_hw), bool)
        for canvas, (crop, (x, y)) in zip(full, self.masks_in_boxes(), strict=True):
            canvas[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
        return full

    def to_supervision(self) -> supervision.Detections:
        """Return `supervision.Detections`, with `masks_full()` and the classes' names in `data["class_name"]`.

        Raises:
            MissingExtraError: supervision isn't installed.
        """
        from resnest_core import conversions

        return conversions.to_supervision(self)

    def to_pandas(self) -> pandas.DataFrame:
        """Return a data frame with the columns x1, y1, x2, y2, score, label and, with a card, class.

        Raises:
            MissingExtraError: pandas isn't installed.
        """
        from resnest_core import conversions

        return conversions.to_pandas(self)

    def to_coco(self, image_id: int | str = 0) -> list[dict[str, Any]]:
        """Return COCO's results: a list of `image_id`, `category_id`, `bbox` (x, y, width, height), `score` and RLE.

        Raises:
            ParameterError: the detections have no card.
        """
        from resnest_core.coco_results import coco

        return coco(self, self._card(), image_id=image_id)

    def plot(
        self,
        image: Image | None = None,
        *,
        score_threshold: float = DRAWING_THRESHOLD,
        color: Color = "rgb",
        color_by: ColorBy = "instance",
    ) -> Pixels:
        """Return the image, RGB (H, W, 3), with the detections above the threshold drawn in.

        Args:
            image: what to draw into; None: the image that the detections are of.
            score_threshold: 0…1.
            color: order of the channels, if `image` is an array.
            color_by: `instance` gives overlapping objects different colours, `class` those of a class the same.

        Raises:
            ImageError: the image can't be used.
            ParameterError: there is no image, or it is of another size.
        """
        from resnest_core import drawing

        if image is None:
            image, color = self.image, self.color
        if image is None:
            raise ParameterError("These detections hold no image: pass the one to draw into, as plot(image).")
        pixels = load_image(image, color=color)
        if pixels.shape[:2] != self.image_size_hw:
            sizes = [f"{width}×{height}" for height, width in (pixels.shape[:2], self.image_size_hw)]
            raise ParameterError(f"The image has {sizes[0]} pixels, but these detections are of one with {sizes[1]}.")
        return drawing.draw(pixels, self, self._card(), score_threshold=score_threshold, color_by=color_by)

    def save(self, path: str | Path, image: Image | None = None, *, score_threshold: float = DRAWING_THRESHOLD) -> None:
        """Write `plot(image)` to a file: PNG or JPEG, as its name ends.

        Raises:
            ImageError: the image can't be used.
            ParameterError: the name has another ending; or there is no image, or it is of another size.
        """
        from resnest_core import drawing

        media_type = drawing.media_type_of(Path(path))
        Path(path).write_bytes(drawing.encode(self.plot(image, score_threshold=score_threshold), media_type))

    @property
    def _mask_threshold(self) -> float:
        return self.card.mask_threshold if self.card else THRESHOLD

    def _one(self, index: int) -> Detection:
        label = int(self.labels[index])
        x1, y1, x2, y2 = self.boxes_xyxy[index].tolist()
        return Detection(
            box_xyxy=(x1, y1, x2, y2),
            score=float(self.scores[index]),
            label=label,
            class_name=self.card.classes[label] if self.card else f"label {label}",
            mask=None if self.masks is None else self.masks[index],
            image_size_hw=self.image_size_hw,
            mask_threshold=self._mask_threshold,
        )

    def _card(self) -> ModelCard:
        if self.card is None:
            raise ParameterError("These detections have no model card, which has the classes: pass card=….")
        return self.card

    def _label(self, class_name: str) -> int:
        classes = self._card().classes
        if class_name not in classes:
            shown = ", ".join(classes[:10]) + (", …" if len(classes) > 10 else "")
            raise ParameterError(f"The model has no class {shortened(class_name)}: its classes are {shown}.")
        return classes.index(class_name)

    def _masks(self) -> NDArray[np.float16]:
        if self.masks is None:
            raise ParameterError("These detections have no masks: use a model with masks, and masks=True.")
        return self.masks
