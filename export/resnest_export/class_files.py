"""Names and category ids of classes, as files and options give them."""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from resnest_core.errors import CheckpointError, ParameterError
from resnest_core.messages import named
from resnest_export.checkpoint import Checkpoint
from resnest_export.coco_classes import COCO
from resnest_export.coco_classes import category_ids as default_category_ids

ENCODINGS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def class_names(
    count: int, file: Path | None, checkpoint: Checkpoint, configured: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Return the classes' names: the file's, one a line, else the configuration's, else the checkpoint's, else COCO's.

    Args:
        count: of the detector's classes.
        file: given by the user.
        checkpoint: its meta may tell names.
        configured: the names of a configuration, if it has any.

    Raises:
        CheckpointError: the names are not as many as the classes, some are the same or empty, or the file isn't text.
    """
    if file is not None:
        names, source = read_lines(file), str(file)
    elif configured:
        names, source = list(configured), "the configuration"
    elif checkpoint.classes is not None:
        names, source = list(checkpoint.classes), "the checkpoint's meta"
    else:
        names, source = list(COCO), "COCO"
    if len(names) != count:
        raise CheckpointError(
            f"The checkpoint has {count} classes, but {source} names {len(names)}: pass --classes FILE, a name a line."
        )
    twice = [repr(name) for name, times in Counter(names).items() if times > 1]
    if twice:
        raise CheckpointError(
            f"{source} names {named(twice)} more than once: give every class a name of its own with --classes FILE."
        )
    if not all(name.strip() for name in names):
        raise CheckpointError(f"{source} has a class without a name: pass --classes FILE, a name a line.")
    return tuple(names)


def category_ids(given: str | None, classes: Sequence[str]) -> tuple[int, ...]:
    """Return the classes' category ids: those given, else COCO's for COCO's eighty in order, else 1…N.

    Args:
        given: numbers between commas, or the name of a file with a number a line, in the order of the classes.
        classes: their names.

    Raises:
        ParameterError: they are not as many as the classes, not all integers from 0 on, or some are the same.
    """
    if given is None:
        return default_category_ids(classes)
    if re.fullmatch(r"[\s\d,+-]+", given):
        source, parts = "--category-ids", given.split(",")
    else:
        source = given
        try:
            parts = [part for line in read_lines(Path(given)) for part in line.rstrip(",").split(",")]
        except CheckpointError as error:
            raise ParameterError(str(error)) from error
    wrong = [repr(part.strip()) for part in parts if not re.fullmatch(r"[0-9]{1,18}", part.strip())]
    if wrong:
        raise ParameterError(f"{source} has {named(wrong)}, but category ids are integers from 0 on: correct it.")
    ids = tuple(int(part) for part in parts)
    if len(ids) != len(classes):
        raise ParameterError(f"{source} has {len(ids)} category ids for {len(classes)} classes: give one for each.")
    twice = [repr(str(one)) for one, times in Counter(ids).items() if times > 1]
    if twice:
        raise ParameterError(f"{source} has {named(twice)} more than once: give every class an id of its own.")
    return ids


def read_lines(file: Path) -> list[str]:
    """Return the lines of a text that aren't blank, without spaces around: UTF-8, or UTF-16 with its byte-order mark.

    Raises:
        CheckpointError: it can't be read, or isn't such text.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{file} can't be read ({error.strerror}): name a file of text.") from error
    encoding = next((name for mark, name in ENCODINGS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{file} can't be read as text, one entry a line: save it as UTF-8.") from error
    if "\0" in text:
        raise CheckpointError(f"{file} has NUL bytes, as UTF-16 without its byte-order mark has: save it as UTF-8.")
    # Not splitlines, which also ends lines at characters that a name may have.
    return [line.strip() for line in re.split(r"\r\n|\r|\n", text) if line.strip()]
