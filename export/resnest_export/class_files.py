"""Names and category ids of classes, as files and options give them."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from resnest_core.errors import CheckpointError, ParameterError
from resnest_core.messages import named
from resnest_core.text_files import read_lines
from resnest_export.checkpoint import Checkpoint
from resnest_export.coco_classes import COCO
from resnest_export.coco_classes import category_ids as default_category_ids


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
        names, source = _names(file), str(file)
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
        parts = [part for line in read_lines(Path(given)) for part in line.rstrip(",").split(",")]
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


def _names(file: Path) -> list[str]:
    """Return the lines of a file of names.

    Raises:
        CheckpointError: it can't be read, or a name has a control character.
    """
    try:
        names = read_lines(file)
    except ParameterError as error:
        raise CheckpointError(str(error)) from error
    if odd := [name for name in names if any(unicodedata.category(one) == "Cc" for one in name)]:
        raise CheckpointError(f"{file} has control characters in {named([repr(name) for name in odd])}: remove them.")
    return names
