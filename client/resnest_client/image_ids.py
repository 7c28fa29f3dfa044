"""COCO's image ids of the files that `resnest detect` reads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from resnest_core.errors import ParameterError
from resnest_core.evaluation import ImageId
from resnest_core.messages import named

TRAILING_NUMBER = re.compile(r"[0-9]+$")


class ImageIds(NamedTuple):
    """An id per file, in the files' order."""

    ids: list[ImageId]
    warning: str | None = None
    """Why they are the files' places in the list, where the names have numbers that can't be ids."""


def ids_by_name(files: Sequence[Path]) -> ImageIds:
    """Return the numbers that the files' names end in, as COCO's do; where not all have their own, places from 0 on."""
    places: list[ImageId] = [*range(len(files))]
    found = [TRAILING_NUMBER.search(file.stem) for file in files]
    without = [file for file, number in zip(files, found, strict=True) if number is None]
    if without:
        if len(without) == len(files):
            return ImageIds(places)
        reason = f"{len(without)} of {len(files)} file names end in no number ({named(without)})"
        return ImageIds(places, _warning(reason, len(files)))
    by_id: dict[int, Path] = {}
    for file, number in zip(files, found, strict=True):
        assert number is not None
        other = by_id.setdefault(int(number[0]), file)
        if other is not file:
            return ImageIds(places, _warning(f"{other} and {file} end in the same number", len(files)))
    return ImageIds([*by_id])


def ids_of_annotations(files: Sequence[Path], ids: Mapping[str, ImageId], annotations: Path) -> ImageIds:
    """Return the ids that annotations have for the files: of the `file_name` that is the end of a file's path.

    Args:
        files: the images.
        ids: of the annotations, by `file_name`.
        annotations: what they are called in messages.

    Raises:
        ParameterError: files aren't in the annotations, or two files are the same image of them.
    """
    by_parts = {_parts(name): id_ for name, id_ in ids.items()}
    longest = max(map(len, by_parts), default=0)
    files_by_id: dict[ImageId, Path] = {}
    missing = []
    for file in files:
        parts = file.absolute().parts
        ends = (parts[-length:] for length in range(min(longest, len(parts)), 0, -1))
        id_ = next((by_parts[end] for end in ends if end in by_parts), None)
        if id_ is None:
            missing.append(file)
            continue
        other = files_by_id.setdefault(id_, file)
        if other is not file:
            raise ParameterError(
                f"{other} and {file} are the same image of {annotations}, {id_}: leave one of them out."
            )
    if missing:
        raise ParameterError(
            f"{len(missing)} of {len(files)} images are not in {annotations}, such as {missing[0]}: leave them out, or "
            "name the annotations that have them."
        )
    return ImageIds([*files_by_id])


def _parts(file_name: str) -> tuple[str, ...]:
    """Return the parts of a name, which may have been written on Windows."""
    return tuple(part for part in re.split(r"[/\\]", file_name) if part not in ("", "."))


def _warning(reason: str, count: int) -> str:
    return (
        f"image_id is an image's place in the list, 0 to {count - 1}, not a number of its name: {reason}. "
        "--annotations FILE takes the ids from COCO's annotations."
    )
