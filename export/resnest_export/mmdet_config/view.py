"""Typed access to a section of a configuration; what isn't understood is collected as a refusal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from resnest_core.errors import ConfigError
from resnest_export.mmdet_config.values import Section, Unevaluated, Value, shortened

SCOPES = ("mmdet", "mmcv", "mmengine")
ELSEWHERE = "train the detector without it, or serve it with mmdetection"
_MISSING = object()


class Refusals:
    """What can't be built of one configuration: a sentence each, in the order they were found."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def add(self, sentence: str) -> None:
        if sentence not in self.sentences:
            self.sentences.append(sentence)

    def raise_any(self) -> None:
        """Raise all refusals as one error.

        Raises:
            ConfigError: there are any.
        """
        if not self.sentences:
            return
        if len(self.sentences) == 1:
            raise ConfigError(self.sentences[0], tuple(self.sentences))
        lines = "".join(f"\n  {sentence}" for sentence in self.sentences)
        raise ConfigError(
            f"{len(self.sentences)} settings of the configuration can't be used:{lines}", tuple(self.sentences)
        )


class View:
    """One dictionary of a configuration.

    Each method that takes a value also marks its key as understood; `done` refuses the keys that nobody asked for.
    A value that can't be used is refused, and the default is returned so that reading can go on.

    Args:
        section: the dictionary.
        path: its name in messages, such as `model.roi_head`.
        refusals: where refusals are collected.
    """

    def __init__(self, section: Section, path: str, refusals: Refusals) -> None:
        self.section = section
        self.path = path
        self.refusals = refusals
        self.understood = {"_scope_"}
        self.only("_scope_", *SCOPES, default="mmdet", advice="its types are another project's")

    def __contains__(self, key: str) -> bool:
        """Whether the key is there and isn't None."""
        return self.section.get(key) is not None

    def refuse(self, key: str, why: str) -> None:
        """Refuse a key; `why` completes the sentence that begins with its path."""
        place = self.section.places.get(key)
        self.refusals.add(f"{self._path_of(key)}{f' ({place})' if place else ''} {why}.")

    def inert(self, *keys: str) -> None:
        """Mark keys that don't matter for inference."""
        self.understood.update(keys)

    def take(self, key: str, default: Value = None) -> Value:
        """Return a value as it is; `default` where the key is absent, None or can't be evaluated."""
        self.understood.add(key)
        value = self.section.get(key)
        unknown = _unknown_in(value)
        if unknown is not None:
            self.refuse(key, f"can't be known, since nothing is executed: {unknown}; write its value")
            return default
        return default if value is None else value

    def required(self, key: str, fallback: Value) -> Value:
        """Return a value that must be there."""
        value = self.take(key)
        if value is None:
            if _unknown_in(self.section.get(key)) is None:
                self.refuse(key, "is missing: add it")
            return fallback
        return value

    def value(self, key: str, default: Value, fallback: Value) -> Value:
        """Return a value; `default` None: the key is required, and `fallback` stands for it."""
        return self.required(key, fallback) if default is None else self.take(key, default)

    def renamed(self, key: str, old: str) -> str:
        """Return which of two names of a key, today's and an earlier one, the section uses."""
        if key in self and old in self and self.section[key] != self.section[old]:
            self.refuse(old, f"and {key} contradict each other: delete {old}")
        self.inert(key, old)
        return old if old in self and key not in self else key

    def type(self, *allowed: str, what: str, default: str | None = None) -> str:
        """Return the section's type without its scope; refuse others by name, and nothing else of such a section."""
        value = self.value("type", default, None)
        name = bare_type(value)
        if name not in allowed:
            if value is not None:  # else it is refused already
                self.refuse(
                    "type", f"is {shortened(value)}: this {what} can't be built, only {_or(allowed)}: {ELSEWHERE}"
                )
            self.refusals = Refusals()  # its keys are another type's
            return allowed[0]
        return name

    def only(self, key: str, *allowed: Value, default: Value, advice: str = ELSEWHERE, required: bool = False) -> Value:
        """Return a value of which only some are supported; equal numbers are equal, lists equal tuples."""
        value = self.required(key, default) if required else self.take(key, default)
        plain = tuple(value) if isinstance(value, list) else value
        for other in allowed:
            if plain == other and isinstance(plain, bool) == isinstance(other, bool):
                return other
        self.refuse(key, f"is {shortened(value)}; supported is only {_or(map(shortened, allowed))}: {advice}")
        return default

    def absent(self, *keys: str) -> None:
        """Refuse keys that change the network, unless they are None."""
        for key in keys:
            if self.take(key) is not None:
                self.refuse(key, f"is {shortened(self.section[key])}, which can't be built: {ELSEWHERE}")

    def boolean(self, key: str, default: bool) -> bool:
        value = self.take(key, default)
        if not isinstance(value, bool):
            self.refuse(key, f"is {shortened(value)}: it must be True or False")
            return default
        return value

    def integer(
        self, key: str, default: int | None, low: int = 1, high: int | None = None, fallback: int | None = None
    ) -> int:
        """Return a whole number within bounds; `default` None: the key is required, `fallback` stands for it."""
        fallback = low if fallback is None else fallback
        value = self.value(key, default, fallback)
        if not _is_integer(value) or value < low or (high is not None and value > high):
            bounds = f"at least {low}" if high is None else f"from {low} to {high}"
            self.refuse(key, f"is {shortened(value)}: it must be a whole number {bounds}")
            return default if default is not None else fallback
        return int(value)

    def number(self, key: str, default: float | None, low: float, high: float, fallback: float = 0.0) -> float:
        """Return a number within bounds; `default` None: the key is required."""
        value = self.value(key, default, fallback)
        if not _is_number(value) or not low <= value <= high:
            self.refuse(key, f"is {shortened(value)}: it must be a number from {low:g} to {high:g}")
            return default if default is not None else fallback
        return float(value)

    def numbers(self, key: str, default: Sequence[float] | None, count: int | None = None) -> tuple[float, ...]:
        """Return a list of finite numbers; `count` None: any number of them but zero."""
        fallback = tuple(default or (1.0,) * (count or 1))
        value = self.value(key, default, fallback)
        is_list = isinstance(value, (list, tuple)) and all(map(_is_number, value))
        if not is_list or not value or (count is not None and len(value) != count):
            self.refuse(key, f"is {shortened(value)}: it must be a list of {count or 'some'} numbers")
            return fallback
        return tuple(map(float, value))

    def view(self, key: str, default: Section | None = None) -> View:
        """Return the view of a dictionary within; an empty one where it is missing and there is no default."""
        value = self.section.get(key)
        self.understood.add(key)
        if value is None and default is not None:
            return View(default, self._path_of(key), self.refusals)
        return self._as_view(value, key, self._path_of(key))

    def views(self, key: str) -> list[View]:
        """Return the views of the dictionaries in a list."""
        self.understood.add(key)
        path = self._path_of(key)
        return [self._as_view(item, key, f"{path}[{index}]") for index, item in enumerate(self.section[key])]

    def _path_of(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path and key else self.path or key

    def _as_view(self, value: Value, key: str, path: str) -> View:
        if not isinstance(value, Section):
            if value is None:
                self.refuse(key, "is missing: add it")
            elif isinstance(value, Unevaluated):
                self.refusals.add(f"{path} can't be known, since nothing is executed: {value}; write its value.")
            else:
                self.refusals.add(f"{path} is {shortened(value)}: it must be a dictionary.")
            return Nothing(path)  # one refusal is enough
        return View(value, path, self.refusals)

    def done(self) -> None:
        """Refuse the keys that are neither understood nor known not to matter."""
        for key in self.section:
            if key not in self.understood:
                self.refuse(
                    str(key),
                    f"is {shortened(self.section[key])}, a key that isn't known here: delete it if it only matters in "
                    "training, else serve the detector with mmdetection",
                )


class Nothing(View):
    """The view of a dictionary that isn't there; what it refuses is dropped."""

    def __init__(self, path: str) -> None:
        super().__init__(Section(), path, Refusals())


def bare_type(value: Value) -> str:
    """Return a type's name without the scope or module that it may be written with."""
    if not isinstance(value, str):
        return ""
    scope, dot, _ = value.partition(".")
    return value.rpartition(".")[2] if dot and scope in (*SCOPES, "torch") else value


def _unknown_in(value: Value) -> Unevaluated | None:
    if isinstance(value, Unevaluated):
        return value
    if isinstance(value, (list, tuple)):
        return next((item for item in value if isinstance(item, Unevaluated)), None)
    return None


def _is_integer(value: Value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e30


def _or(names: Iterable[str]) -> str:
    return " or ".join(names)
