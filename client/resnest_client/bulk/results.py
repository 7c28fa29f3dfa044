"""The results of a part: a Parquet table, or JSON Lines in one of the response formats."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from resnest_core.card import METADATA_KEY, ModelCard
from resnest_core.detections import Detections
from resnest_core.errors import ParameterError
from resnest_core.formats import FORMATS
from resnest_core.masks import MASK_FORMS, mask_form, rle

if TYPE_CHECKING:
    import pyarrow as pa


class ImageName(NamedTuple):
    """Which image: its name, the path or address that it was read from, and its row there if that is a Parquet file."""

    file: str
    address: str
    row: int | None = None


@dataclass(frozen=True)
class ResultFormat:
    """How results are written. `answer_format` is one of FORMATS, for JSON Lines; None: Parquet. `masks` as there.

    Raises:
        ParameterError: there is no such format, it can't be lines, or Parquet has no such masks.
    """

    answer_format: str | None = None
    masks: str = "rle"

    def __post_init__(self) -> None:
        mask_form(self.masks)
        if self.answer_format is None:
            if self.masks not in ("rle", "none"):
                raise ParameterError(
                    f"Masks in Parquet are rle or none, not {self.masks}: --format native writes JSON Lines, which "
                    f"have {', '.join(MASK_FORMS)}."
                )
        elif self.answer_format not in FORMATS:
            raise ParameterError(f"--format must be one of {', '.join(FORMATS)}, not {self.answer_format}.")
        elif FORMATS[self.answer_format].is_list:
            raise ParameterError(
                f"Answers in the format {self.answer_format} are one list, not lines: leave out --format for Parquet, "
                "which has COCO's masks and category ids, or name another."
            )

    @property
    def suffix(self) -> str:
        """Of the files."""
        return ".parquet" if self.answer_format is None else ".jsonl"

    def record(self, image: ImageName, found: Detections, card: ModelCard) -> dict[str, Any]:
        """Return what is written of an image."""
        if self.answer_format is not None:
            answer = FORMATS[self.answer_format].make(found, card, masks=self.masks, image_id=image.file)
            model = {"model": card.name, "checkpoint_sha256": card.checkpoint_sha256, "precision": card.precision}
            return {**image._asdict(), **answer, **model}
        height, width = found.image_size_hw
        masks: list[Any] = [None] * len(found)
        if self.masks == "rle" and found.masks is not None:
            masks = [
                rle(mask, box, found.image_size_hw, threshold=card.mask_threshold)
                for mask, box in zip(found.masks, found.boxes_xyxy, strict=True)
            ]
        rows = [
            {
                "box_xyxy": box,
                "score": score,
                "label": label,
                "class": card.classes[label],
                "category_id": card.category_ids[label],
                "mask": mask,
            }
            for box, score, label, mask in zip(
                found.boxes_xyxy.tolist(), found.scores.tolist(), found.labels.tolist(), masks, strict=True
            )
        ]
        return {**image._asdict(), "width": width, "height": height, "detections": rows}

    def encode(self, records: Sequence[dict[str, Any]], card: ModelCard) -> bytes:
        """Return a file's bytes: the same for the same records."""
        if self.answer_format is not None:
            return "".join(json.dumps(record) + "\n" for record in records).encode()
        import pyarrow as pa
        from pyarrow import parquet

        model = {"model": card.name, "checkpoint_sha256": card.checkpoint_sha256, "precision": card.precision}
        metadata = {METADATA_KEY: card.model_dump_json()}
        table = pa.Table.from_pylist([{**record, **model} for record in records], schema().with_metadata(metadata))
        file = io.BytesIO()
        parquet.write_table(table, file, compression="zstd")
        return file.getvalue()


def schema() -> pa.Schema:
    """Return the columns of the Parquet files: docs/bulk.md describes them."""
    import pyarrow as pa

    mask = pa.struct({"size": pa.list_(pa.int32()), "counts": pa.string()})
    detection = {
        "box_xyxy": pa.list_(pa.float32()),
        "score": pa.float32(),
        "label": pa.int32(),
        "class": pa.string(),
        "category_id": pa.int64(),
        "mask": mask,
    }
    return pa.schema(
        {
            "file": pa.string(),
            "address": pa.string(),
            "row": pa.int64(),
            "width": pa.int32(),
            "height": pa.int32(),
            "detections": pa.list_(pa.struct(detection)),
            "model": pa.string(),
            "checkpoint_sha256": pa.string(),
            "precision": pa.string(),
        }
    )
