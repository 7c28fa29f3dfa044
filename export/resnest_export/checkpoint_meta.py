"""What a checkpoint's `meta` says of the detector that was trained: its configuration and its classes' names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from resnest_export.checkpoint_pickle import StandIn

ConfigStyle = Literal["2.x", "3.x"]
"""Of mmdetection: which of its versions wrote the configuration."""


@dataclass(frozen=True)
class KeptConfig:
    """A configuration that a checkpoint keeps."""

    text: str
    """Python's source."""
    style: ConfigStyle


def kept_config(meta: object) -> KeptConfig | None:
    """Return the configuration in a checkpoint's meta: `cfg` is mmdetection 3's, `config` is mmdetection 2's.

    It may be text, a mapping, or an object of the classes `Config` and `ConfigDict` of mmcv and mmengine, whose
    contents become text. In that what isn't a literal is the call `unreadable('its.class')`.
    """
    if not isinstance(meta, Mapping):
        return None
    styles: tuple[tuple[str, ConfigStyle], ...] = (("cfg", "3.x"), ("config", "2.x"))
    for key, style in styles:
        value = meta.get(key)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if isinstance(value, str) and value.strip():
            return KeptConfig(value, style)
        if content := _mapping(value):
            lines = (f"{key} = {_source(item)}\n" for key, item in content.items() if isinstance(key, str))
            return KeptConfig("".join(lines), style)
    return None


def class_names_in(meta: object) -> tuple[str, ...] | None:
    """Return the names in a checkpoint's meta: mmdetection 2 keeps `CLASSES`, mmdetection 3 `dataset_meta`."""
    if not isinstance(meta, Mapping):
        return None
    for holder in (meta, _mapping(meta.get("dataset_meta")) or {}):
        for key in ("CLASSES", "classes"):
            names = holder.get(key)
            if isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names):
                return tuple(names)
    return None


def _mapping(value: object) -> Mapping[Any, Any] | None:
    """Return the items of a mapping, or of what stands in for a `Config` or `ConfigDict`; None if there are none."""
    if not isinstance(value, StandIn):
        return value if isinstance(value, Mapping) else None
    # A Config has (items, file's name, …) as its state; ConfigDict its items as state or as its one argument.
    state = value.state[0] if isinstance(value.state, tuple) and value.state else value.state
    for items in (value, state, state.get("_cfg_dict") if isinstance(state, Mapping) else None, *value.arguments):
        if isinstance(items, StandIn) and items is not value:
            items = _mapping(items)
        if isinstance(items, Mapping) and items and "_cfg_dict" not in items:
            return items
    return {} if value.kind.rpartition(".")[2] in ("ConfigDict", "OrderedDict", "defaultdict", "Dict") else None


def _source(value: object) -> str:
    """Return a value as Python's source."""
    if isinstance(value, str | bool | int | float | None):
        return repr(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_source, value))}]"
    if isinstance(value, tuple):
        return f"({', '.join(map(_source, value))}{',' if len(value) == 1 else ''})"
    items = _mapping(value)
    if items is None:
        kind = value.kind if isinstance(value, StandIn) else type(value).__name__
        return f"unreadable({kind!r})"
    return f"{{{', '.join(f'{key!r}: {_source(item)}' for key, item in items.items())}}}"
