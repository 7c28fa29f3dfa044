"""Merges a configuration into its bases as mmengine does."""

from __future__ import annotations

from resnest_core.errors import ConfigError
from resnest_export.mmdet_config.values import Section, Unevaluated, Value, shortened

DELETE = "_delete_"


def merged(child: Section, base: Section) -> Section:
    """Return `base` with `child` merged into it: dictionaries key by key, everything else replaced.

    A dictionary with `_delete_=True` replaces the base's. Neither argument is changed.

    Raises:
        ConfigError: a dictionary stands where the base has another kind of value.
    """
    result = Section(base)
    for key, value in child.items():
        result[key] = _child_value(key, value, result, child)
        if key in child.places:
            result.places[key] = child.places[key]
    return result


def _child_value(key: str, value: Value, base: Section, child: Section) -> Value:
    if not isinstance(value, Section) or key not in base:
        return value
    flag = value.get(DELETE, False)
    if isinstance(flag, Unevaluated):
        return flag
    kept = Section(value)
    kept.pop(DELETE, None)
    if flag:
        return kept
    before = base[key]
    if isinstance(before, Unevaluated):
        return before
    if not isinstance(before, Section):
        place = f"{child.places[key]}: " if key in child.places else ""
        raise ConfigError(
            f"{place}{key} is a dictionary and can't be merged into the base's {shortened(before)}: "
            f"add {DELETE}=True to replace it, or write the whole value."
        )
    return merged(kept, before)
