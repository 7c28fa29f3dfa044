"""Names of the classes, from a configuration and the meta of its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resnest_export.mmdet_config.values import Section, Value
from resnest_export.mmdet_config.view import Refusals


def class_names(
    config: Section, dataset: Value, known: tuple[str, ...] | None, num_classes: int, refusals: Refusals
) -> tuple[str, ...] | None:
    """Return the names in label order; None where nobody says them.

    The test data set's come first, then the checkpoint's, then the configuration's variables; a list of another
    length than the box head's classes is passed over for a later one, and refused if there is none.

    Args:
        config: the whole configuration.
        dataset: the section of the test data set.
        known: those that the checkpoint's meta tells.
        num_classes: of the box head.
    """
    candidates = {
        "the test data set": _names_in(dataset) or _names_in(_get(dataset, "metainfo")),
        "the checkpoint's meta": known,
        "metainfo": _names_in(_get(config, "metainfo")),
        "classes": _names(_get(config, "classes")),
    }
    found = {source: names for source, names in candidates.items() if names}
    fitting = next((names for names in found.values() if len(names) == num_classes), None)
    if fitting is None and found:
        source, names = next(iter(found.items()))
        refusals.add(
            f"{source} names {len(names)} classes, but the box head's num_classes is {num_classes}: make them equal."
        )
        return None
    if fitting is not None and len(set(fitting)) < len(fitting):
        twice = next(name for name in fitting if fitting.count(name) > 1)
        refusals.add(f"the class {twice!r} is named twice: give every class a name of its own.")
    return fitting


def _get(container: Any, key: str) -> Any:
    return container.get(key) if isinstance(container, Mapping) else None


def _names_in(container: Any) -> tuple[str, ...] | None:
    return _names(_get(container, "classes")) or _names(_get(container, "CLASSES"))


def _names(value: Any) -> tuple[str, ...] | None:
    """Return a list of names; a string isn't one, but the path of a file of them, and other things are no names."""
    if isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value):
        return tuple(value) or None
    return None
