"""Properties of the reader: it agrees with Python on literals, and damaged texts only ever raise ConfigError."""

from __future__ import annotations

import copy
import pprint
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resnest_core.errors import ConfigError
from resnest_export.mmdet_config import read_config, settings_from_config
from resnest_export.mmdet_config.settings import DetectorSettings
from tests.export.mmdet_config.texts import CONFIGS, plain, text_of

NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
LITERALS = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=4)
    ),
    max_leaves=20,
)
TEXT = (CONFIGS / "small_parts" / "config_v2.py").read_text()
SNIPPETS = st.sampled_from(
    ["(", ")", "[", "]", "{", "}", ",", "=", "**", "*", ":", "'", '"', "\n", "    ", "dict(", "lambda: ", "for x in ",
     "import os\n", "model", "del ", "if ", "_base_ = ", "{{", "}}", "\\", "#", "\0", "\ufeff", "\ud800", "not ", "-",
     "open({trace!r}, 'w')", "__import__('pathlib').Path({trace!r}).touch()", "exec(\"open({trace!r}, 'w')\")"]
)  # fmt: skip


@given(values=st.dictionaries(st.from_regex(r"[a-z]{1,6}x", fullmatch=True), LITERALS, max_size=4))
def test_literals_are_read_back(values: dict[str, Any]) -> None:
    text = "".join(f"{name} = {pprint.pformat(value)}\n" for name, value in values.items())
    if "{{" in text:  # of mmengine
        return
    assert read_config(text) == values


@given(a=NUMBERS, b=NUMBERS, operator=st.sampled_from(["+", "-", "*", "/", "//", "%"]))
def test_arithmetic_is_pythons(a: float, b: float, operator: str) -> None:
    text = f"({a!r}) {operator} ({b!r})"
    try:
        expected = eval(text)
    except ArithmeticError:
        return
    value = read_config(f"x = {text}")["x"]
    assert value == expected or (isinstance(expected, int) and expected.bit_length() > 1024)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), SNIPPETS), min_size=1, max_size=6))
def test_damaged_texts_raise_config_errors_only_and_run_nothing(
    edits: list[tuple[float, int, str]], tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    text = TEXT
    for where, removed, snippet in edits:
        at = int(where * len(text))
        text = text[:at] + snippet.replace("{trace!r}", repr(str(trace))) + text[at + removed :]
    try:
        result = settings_from_config(read_config(text))
    except ConfigError as error:
        assert str(error)
    else:
        assert isinstance(result, DetectorSettings)
    assert not trace.exists()


@settings(deadline=None, max_examples=60)
@given(length=st.integers(0, len(TEXT)))
def test_truncated_texts_raise_config_errors_only(length: int) -> None:
    whole = settings_from_config(read_config(TEXT))
    try:
        result = settings_from_config(read_config(TEXT[:length]))
    except ConfigError:
        return
    assert result == whole  # cut in what doesn't matter


def paths_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to everything within `model`, `test_cfg` and the like."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [path] if path else []
    for key, item in items:
        found += paths_in(item, (*path, key))
    return found


MODEL = plain("bgr_cascade")
WAYS = [way for way in paths_in(MODEL) if way[0] in ("model", "test_dataloader")]
JUNK = st.none() | st.booleans() | st.integers(-3, 2000) | st.floats() | st.text(max_size=3) | st.lists(
    st.integers(-1, 9) | st.text(max_size=2), max_size=3
) | st.dictionaries(st.sampled_from(["type", "a"]), st.text(max_size=3), max_size=2)  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(way=st.sampled_from(WAYS), value=JUNK)
def test_any_value_anywhere_gives_settings_or_a_config_error(way: tuple[Any, ...], value: Any) -> None:
    config = copy.deepcopy(MODEL)
    part = config
    for step in way[:-1]:
        part = part[step]
    part[way[-1]] = value
    try:
        text = text_of(config).replace("inf", "1e999").replace("nan", "(1e999-1e999)")
        result = settings_from_config(read_config(text))
    except ConfigError as error:
        assert error.refusals or "isn't valid" in str(error)
    else:
        assert isinstance(result, DetectorSettings)
        hash(result)


@settings(deadline=None, max_examples=60)
@given(way=st.sampled_from(WAYS))
def test_an_unknown_key_anywhere_in_the_model_is_refused(way: tuple[Any, ...]) -> None:
    config = copy.deepcopy(MODEL)
    part: Any = config
    for step in way:
        part = part[step]
    if not isinstance(part, dict) or way[0] != "model" or not is_read(way):
        return
    part["some_new_key"] = 1
    with pytest.raises(ConfigError, match=r"some_new_key.*a key that isn't known"):
        settings_from_config(read_config(text_of(config)))


def is_read(way: tuple[Any, ...]) -> bool:
    """Whether a section decides inference: the inert ones are read over whole."""
    return not {"train_cfg", "init_cfg", "loss_bbox", "loss_mask", "loss_cls"} & set(way)
