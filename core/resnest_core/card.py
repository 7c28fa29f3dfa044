"""The model card: what a model is, carried inside its own file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from resnest_core.errors import InvalidModelError, ParameterError
from resnest_core.onnx_metadata import read_metadata

METADATA_KEY = "resnest_card"  # of the ONNX file's metadata
NETWORK_SUFFIX = "_network"  # of the folder that holds a model's network in a repository
PREPROCESS_SUFFIX = "_preprocess"  # of the folder that holds Triton's preprocessing of a model
MODEL_NAME = re.compile(r"[A-Za-z0-9_.-]+")


class ModelCard(BaseModel):
    """What a runtime, a gateway and a user need to know of a model."""

    model_config = ConfigDict(frozen=True)

    name: str
    family: str
    """Such as `Mask R-CNN`."""
    backbone: str
    """Such as `ResNeSt-50`."""
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    """The data set's id of each class; COCO's run from 1 to 90 with gaps."""
    test_scale: tuple[int, int]
    """With `keep_ratio` the (long, short) side in pixels that an image is fitted into, else its (width, height)."""
    keep_ratio: bool = True
    size_divisor: int = Field(default=32, ge=1)
    """Padded height and width are multiples of this."""
    pad_size_hw: tuple[int, int] | None = None
    """(height, width) that images are padded to at least, before `size_divisor` applies; None: no fixed size."""
    pad_rgb: tuple[int, int, int] | None = None
    """Colour of the padding to `pad_size_hw` where that counts as image: it is normalised, and boxes may reach into it
    before they are clipped; None: it is 0 after normalisation."""
    mean: tuple[float, float, float] = (123.68, 116.779, 103.939)
    """Subtracted in the network, per channel in `channel_order`, in units of 0…255."""
    std: tuple[float, float, float] = (58.393, 57.12, 57.375)
    channel_order: Literal["rgb", "bgr"] = "rgb"
    """Order in which the network sees the channels; `images` is RGB in any case."""
    score_threshold: float = 0.05
    """The model's own: no detection at or below it."""
    nms: dict[str, str | float | bool | None] = {"type": "nms", "iou_threshold": 0.5}
    """`type` is `nms` or `soft_nms`, with the settings of mmcv's operator of that name."""
    max_detections: int = 100
    """K: the most detections of an image that the network returns."""
    mask_size: int | None = None
    """Side of the square masks; None for a model without masks."""
    mask_threshold: float = 0.5
    """Probability from which (≥) a pixel belongs to a mask."""
    box_ap: float | None = None
    """Published box AP (COCO val2017, in percent); None for weights that weren't published with one."""
    mask_ap: float | None = None
    checkpoint: str
    """File name of the checkpoint."""
    checkpoint_sha256: str
    project_version: str
    precision: str = "fp32"
    unquantized_precision: Literal["fp32", "bf16"] = "fp32"
    """Of an int8 model: what layers that aren't quantized are computed in; where the CPU has no bf16, in fp32."""
    notes: str = ""

    @property
    def fixed_size_hw(self) -> tuple[int, int] | None:
        """(height, width) that every image is resized to; None with `keep_ratio`."""
        return None if self.keep_ratio else (self.test_scale[1], self.test_scale[0])

    @model_validator(mode="after")
    def _one_id_a_class(self) -> ModelCard:
        if len(self.classes) != len(self.category_ids):
            raise ValueError(f"{len(self.classes)} classes, but {len(self.category_ids)} category ids")
        return self

    @property
    def has_masks(self) -> bool:
        return self.mask_size is not None

    @classmethod
    def from_metadata(cls, metadata: dict[str, str], path: object) -> ModelCard:
        """Read the card from an ONNX file's metadata; `path` names the file in errors.

        Raises:
            InvalidModelError: there is no card, or not a valid one.
        """
        if METADATA_KEY not in metadata:
            raise InvalidModelError(f"{path} has no model card: make the file with `resnest export`.")
        try:
            return cls.model_validate_json(metadata[METADATA_KEY])
        except ValidationError as error:
            raise InvalidModelError(f"{path} has a damaged model card: export the model again.") from error


def read_card(path: Path) -> ModelCard:
    """Read the card of an ONNX file without parsing its weights.

    In a model repository (`<name>_network/<version>/model.onnx`) the card's name is the folder's, whatever the file
    says: a copied or renamed folder is a model of its own.

    Raises:
        InvalidModelError: the file is damaged, or wasn't made by `resnest export`.
    """
    card = ModelCard.from_metadata(read_metadata(path), path)
    name = name_in_repository(path)
    return card if name is None else card.model_copy(update={"name": name})


def name_in_repository(path: Path) -> str | None:
    """Return the model's name that an ONNX file's folder gives it; None: the file isn't in a model repository."""
    folder = path.absolute().parent.parent.name
    return folder.removesuffix(NETWORK_SUFFIX) if folder.endswith(NETWORK_SUFFIX) else None


def check_model_name(name: str) -> None:
    """Refuse a name that can't be a model's: it is part of folders' names, addresses and metrics.

    Raises:
        ParameterError: it isn't made of letters, digits, `_`, `.` and `-`, or begins with a dot; or its folder would be
            one of another model's, since a model `x` has the folders `x`, `x_network` and `x_preprocess`.
    """
    if not MODEL_NAME.fullmatch(name) or name.startswith("."):
        raise ParameterError(
            f"A model can't be called {name!r}: use letters of ASCII, digits, `_`, `.` and `-`, and no dot in front."
        )
    for suffix in (NETWORK_SUFFIX, PREPROCESS_SUFFIX):
        if name.endswith(suffix):
            raise ParameterError(
                f"A model can't be called {name!r}: that is a folder of a model {name.removesuffix(suffix)!r}, "
                f"so use a name that doesn't end in {suffix}."
            )
