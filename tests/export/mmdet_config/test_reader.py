"""Reading of configuration texts: what is evaluated, what isn't, and that nothing is executed."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest

from resnest_core.errors import CheckpointError, ConfigError
from resnest_export.mmdet_config import read_config, read_config_file, settings_from_config
from resnest_export.mmdet_config.values import Section, Unevaluated
from tests.export.mmdet_config.texts import CONFIGS, published_text

FILES = sorted(CONFIGS.glob("*/config*.py"))
OPAQUE = [
    "try:\n    from x import *\nexcept ImportError:\n    pass",
    "if foo():\n    from x import *",
    "try:\n    pass\nexcept ValueError as model:\n    pass",
    "match 1:\n    case model:\n        pass",
    "match [1]:\n    case [*model]:\n        pass",
    "match {'a': 1}:\n    case {**model}:\n        pass",
    "try:\n    import model.a\nfinally:\n    pass",
    "try:\n    from x import y as model\nfinally:\n    pass",
]
"""Statements that aren't followed, which bind the name `model` otherwise than by an assignment."""


def executed(text: str) -> dict[str, Any]:
    """Return what Python makes of a text that is known to be harmless."""
    names: dict[str, Any] = {}
    exec(text, names)
    return {name: value for name, value in names.items() if not name.startswith("__")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_real_configurations_read_as_python_reads_them(path: Path) -> None:
    assert read_config_file(path) == executed(path.read_text())


@pytest.mark.parametrize(
    "text",
    [
        "a = 1\nb = -a + 2 * 3 // 4 - 5 % 3 + 2 ** 10 / 3\nc = +1.5e3, True, None, not a, ~3",
        "a = dict(x=1, y=[1, (2,)])\nb = dict(a, x=2)\nc = dict(**a, z=3)\nd = {**a, 'x': 4}\ne = dict([('k', 1)])",
        "a = list((1, 2)) + [3]\nb = tuple(a) + (4,)\nc = set([1])",
        "a = [*[1, 2], *(3,)]\nb = (0,) * 3 + 2 * (1,)\nc = 'x' * 3 + 'y'\nd = {1, 2}",
        "a = dict(x=dict(y=[1, 2, 3]))\nb = a['x']['y'][-1]\nc = a['x']['y'][1:]\nd = 'abc'[::-1]",
        "a = dict(x=1)\na['x'] = 2\na['y'] = [0]\na['y'][0] = 5\ndel a['x']\nb = 1\ndel b",
        "a = dict(x=[1])\nb = a\nb['x'].append(2)\na.update(dict(y=3), z=4)\nc = a.pop('z')\nd = a.get('q', 7)",
        "a = [1]\nb = a\na += [2]\nn = 1\nn *= 5\ns = 'a'\ns += 'b'\na.extend((3,))\na.insert(0, 0)\nc = a.copy()",
        "a, (b, c) = 1, [2, 3]\nd = e = [0]\nd.append(1)\nx: int = 3\ny: int",
        "n = 3\na = 'many' if n > 2 else 'few'\nb = 1 < n <= 3 and n != 4\nc = None or [] or 'x'\nd = n is None",
        "n = 2\nif n == 2:\n    a = dict(k=1)\nelif n:\n    a = 0\nelse:\n    a = 1\nassert a\npass\n'text'",
        "name = 'x'\na = f'{name}_{3}.py'\nb = 'a' 'b'\nc = r'C:\\d' + b",
        "a = dict(type='A')\nb = [a, a]\nb[0]['type'] = 'B'",
        "a = 1; b = {'1': {2: 3.5}}\n",
        "classes = ['a', 'b']\nn = len(classes)\nm = max(n, 3)\nk = int(7 / 2) + round(2.6)\nd = len(dict(a=1))",
        "",
    ],
)
def test_evaluates_what_python_would(text: str) -> None:
    config = read_config(text)
    assert config == executed(text)
    assert "Unevaluated" not in repr(config)


@pytest.mark.parametrize(
    ("statement", "line"),
    [
        ("import os\nx = os.environ['A']", 2),
        ("x = open('/nowhere')", 1),
        ("x = [i for i in (1, 2)]", 1),
        ("x = int('3')", 1),
        ("x = lambda: 3", 1),
        ("x = undefined", 1),
        ("x = 'a' % 3", 1),
        ("x = '{}'.format(3)", 1),
        ("x = f'{1:03d}'", 1),
        ("x = 1\nfor i in (1, 2):\n    x = i", 2),
        ("x = 1\nwhile True:\n    x += 1", 2),
        ("def x():\n    pass", 1),
        ("class x:\n    pass", 1),
        ("from somewhere import x", 1),
        ("x = 1 / 0", 1),
        ("x = [1][5]", 1),
        ("x = dict(a=1)['b']", 1),
        ("x = 'a' + 1", 1),
        ("x = 9 ** 9 ** 9", 1),
        ("x = [0] * 10 ** 9", 1),
        ("x = b'bytes'", 1),
        ("x = 1j", 1),
        ("x = ...", 1),
        ("x = dict(a=1, **dict(a=2))", 1),
        ("x = '{{$HOME:/data}}'", 1),
        ("x = {{'$COUNT:80'}}", 1),
        ("x = {{_base_.a}}", 1),
        ("import os\nif os.name == 'nt':\n    x = 1\nelse:\n    x = 2", 2),
        ("try:\n    x = 1\nexcept ValueError:\n    x = 2", 1),
        ("x = 0\n(x := 5)", 2),
        ("x = y = dict()\nprint(x)", 2),
        ("*x, y = 1, 2", 1),
    ],
)
def test_marks_what_it_cannot_evaluate_with_its_line(statement: str, line: int) -> None:
    value = read_config(statement)["x"]
    assert isinstance(value, Unevaluated), value
    assert value.place.line == line
    assert f"line {line}" in str(value)


@pytest.mark.parametrize(
    "tail",
    [
        "foo(model)",
        "foo(a=[model])",
        "x = foo(model)",
        "x = [foo(m) for m in [model]]",
        "x = [m.update(a=2) for m in [model]]",
        "y = model\nfoo(y)",
        "y = (model,)\nfoo(y)",
        "foo(model['backbone'])",
        "for m in [model]:\n    m['backbone'] = 1",
        "for k in ('a',):\n    model.pop(k)",
        "def f():\n    model['a'] = 1\nf()",
        "def f():\n    model['a'] = 1\ng = f\ng()",
        "def f():\n    model['a'] = 1\nx = [1]\nx.append(f())",
        "f = lambda: model.update(a=1)\nf()",
        "(lambda: model.update(a=1))()",
        "class A:\n    model['a'] = 1",
        "with foo() as f:\n    model = 1",
        "exec('model = 1')",
        "globals()['model'] = 1",
        "setattr(model, 'a', 1)",
        "from somewhere import *",
        "import model",
        "model.backbone = 1",
        "model[foo()] = 1",
        "model |= dict(a=1)",
        "del model[foo()]",
        "model.update(foo())",
        "assert foo(model)",
        "raise ValueError",
        "(model := foo())",
        "async def f():\n    pass\nx = f(model)",
        *OPAQUE,
    ],
)
def test_code_that_may_change_the_model_makes_it_unknown(tail: str) -> None:
    """A changed model would be answered wrongly, so what code may reach isn't trusted."""
    config = read_config(f"model = dict(backbone=dict(depth=50))\n{tail}")
    with pytest.raises(ConfigError, match=r"can't be known.*line [23456]"):
        settings_from_config(config)


@pytest.mark.parametrize("tail", OPAQUE)
def test_names_that_opaque_statements_bind_are_unknown(tail: str) -> None:
    config = read_config(f"model = dict(a=1)\n{tail}")
    assert isinstance(config["model"], Unevaluated)
    assert "*" not in config


@pytest.mark.parametrize(
    ("test", "value"),
    [("x + 'y' is 'xy'", True), ("x + 'y' is not 'xy'", False), ("1 is None", False), ("1 is not None", True)],
)
def test_is_and_is_not_are_opposites(test: str, value: bool) -> None:
    assert read_config(f"x = 'x'\na = {test}") == {"x": "x", "a": value}


@pytest.mark.parametrize(
    "tail",
    [
        "import os\nwork_dir = os.path.join('a', 'b')",
        "train_pipeline = [dict(type='A', x=foo())]",
        "palette = [(i, i, i) for i in range(80)]",
        "def f(x):\n    return dict(x)\nwork_dir = str(foo(3))",
        "lr = 0.02 * foo(8)\noptimizer = dict(lr=lr)",
        "custom_imports = dict(imports=['my.module'], allow_failed_imports=False)",
        "print('hello')",
    ],
)
def test_code_that_does_not_touch_the_model_does_not_matter(tail: str) -> None:
    text = published_text(50, cascade=False, masks=True)
    assert settings_from_config(read_config(text + tail)) == settings_from_config(read_config(text))


@pytest.mark.parametrize(
    "code",
    [
        "open({0!r}, 'w')",
        "__import__('pathlib').Path({0!r}).touch()",
        "x = [open({0!r}, 'w') for _ in (1,)]",
        "exec(\"open({0!r}, 'w')\")",
        "import pathlib\npathlib.Path({0!r}).touch()",
        "@(lambda f: open({0!r}, 'w'))\ndef f(): pass",
        "class A:\n    open({0!r}, 'w')",
        "x = dict(a=open({0!r}, 'w'))",
        "x = f\"{{open({0!r}, 'w')}}\"",
        "x = 1 if open({0!r}, 'w') else 2",
        "x = {{}}.get(1, open({0!r}, 'w'))",
        "_base_ = [open({0!r}, 'w')]",
        "if open({0!r}, 'w'):\n    pass",
        "del [1][open({0!r}, 'w')]",
        "model = {{open({0!r}, 'w'): 1}}",
    ],
)
def test_nothing_is_executed(code: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    text = code.format(str(trace))
    compile(text, "config", "exec")  # it would run
    try:
        read_config(text)
    except ConfigError as error:
        assert "_base_" in str(error)  # a base must be known
    assert not trace.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model = dict(", r"line 1, isn't valid Python.*cut short or damaged.*--config"),
        (published_text(50, cascade=True, masks=True)[:900], "isn't valid Python"),
        ("a = 1\n  b = 2", "line 2, isn't valid Python"),
        ("a\0b", "null bytes"),
        ("a = '\ud800'", "isn't a configuration"),
        ("configs/a.py\nmodel = dict()\n", r"several files in a row.*configs/a.py.*--config"),
        ("_base_ = '../base.py'", r"builds on other files \(\.\./base\.py\).*--config"),
        ("_base_ = 3", "isn't a path or a list of paths"),
        ("_base_ = ['a.py', foo()]", r"isn't a path.*foo\(\) is a call"),
        ("with read_base():\n    from .x import *", r"line 1: this is mmengine's Python style.*dump"),
        ("a = " + "(" * 300 + ")" * 300, "nested deeper"),
        ("a = " + "[" * 150 + "]" * 150, "nested deeper"),
        ("a = " + "-" * 100_000 + "1", "nested deeper"),
        ("a = " + "- " * 100_000 + "1", "nested deeper"),
        ("a = " + "+".join("1" * 50_000), "nested deeper"),
        ("a = x" + ".b" * 50_000, "nested deeper"),
        ("a = x" + "[0]" * 50_000, "nested deeper"),
        ("a = " + "not " * 50_000 + "1", "nested deeper"),
        ("a = " + "1 if 1 else " * 50_000 + "1", "nested deeper"),
        ("a" * 5_000_000, "5,000,000 characters"),
    ],
    ids=lambda value: value[:24],
)
def test_texts_that_are_no_configuration(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read_config(text)
    assert isinstance(caught.value, CheckpointError)
    assert "\n" not in str(caught.value)


def test_sharing_that_grows_exponentially_stays_small() -> None:
    lines = ["x0 = [1]", *(f"x{i + 1} = [x{i}, x{i}]" for i in range(60)), "s0 = 'ab'"]
    lines += [f"s{i + 1} = s{i} + s{i}" for i in range(60)]
    lines += ["n0 = 3", *(f"n{i + 1} = n{i} * n{i}" for i in range(60)), "foo(x60)"]
    config = read_config("\n".join(lines))
    assert isinstance(config["s60"], Unevaluated)
    assert isinstance(config["n60"], Unevaluated)
    assert isinstance(config["x60"], Unevaluated)


@pytest.mark.parametrize("change", [lambda text: "\ufeff" + text, lambda text: text.replace("\n", "\r\n")])
def test_byte_order_mark_and_line_ends_do_not_matter(change: Any, tmp_path: Path) -> None:
    text = (CONFIGS / "small_parts" / "config_v2.py").read_text()
    path = tmp_path / "config.py"
    path.write_bytes(change(text).encode())
    assert read_config_file(path) == read_config(change(text)) == read_config(text)


def test_line_numbers_after_other_line_ends() -> None:
    value = read_config("a = 1\r\n\r\nx = foo()\r\n")["x"]
    assert value.place.line == 3


def test_brackets_in_names_and_comments_are_no_nesting() -> None:
    names = [f"part {i} (left" for i in range(500)]
    assert read_config(f"# {'(' * 200}\nclasses = {names!r}  # {'[' * 200}") == {"classes": names}


def test_windows_paths_are_text() -> None:
    config = read_config("data_root = 'D:\\\\data\\\\parts'\nwork = r'C:\\work\\d'\nodd = 'E:\\data'")
    assert config == {"data_root": "D:\\data\\parts", "work": "C:\\work\\d", "odd": "E:\\data"}


def test_places_of_keys() -> None:
    config = read_config("model = dict(\n    a=1,\n    b=dict(\n        c=2))\nmodel['b']['d'] = 3\nx = 1")
    assert [place.line for place in config["model"].places.values()] == [2, 3]
    assert {key: place.line for key, place in config["model"]["b"].places.items()} == {"c": 4, "d": 5}
    assert config.places["x"].line == 6


def test_json_is_read_and_yaml_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model": {"type": "MaskRCNN", "x": [1, None, 2.5]}}))
    config = read_config_file(path)
    assert config == {"model": {"type": "MaskRCNN", "x": [1, None, 2.5]}}
    assert isinstance(config["model"], Section)
    for content in ('{"model": ', "[" * 100_000, "[1]"):
        path.write_text(content)
        with pytest.raises(ConfigError, match=r"config\.json"):
            read_config_file(path)
    with pytest.raises(ConfigError, match=r"YAML.*dump"):
        read_config_file(tmp_path / "config.yml")
    with pytest.raises(ConfigError, match="isn't a configuration"):
        read_config_file(tmp_path / "model.pth")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"can't be read \(No such file"):
        read_config_file(tmp_path / "missing.py")
    (tmp_path / "latin.py").write_bytes("a = 'ü'".encode("latin-1"))
    with pytest.raises(ConfigError, match="UTF-8"):
        read_config_file(tmp_path / "latin.py")
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(ConfigError, match="can't be read"):
        read_config_file(tmp_path / "folder.py")
    with pytest.raises(ConfigError, match="can't be read"):
        read_config_file(Path("a\0.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_reading_takes_less_than_half_a_second(path: Path) -> None:
    start = time.thread_time()
    settings_from_config(read_config_file(path))
    assert time.thread_time() - start < 0.5


def test_infinite_numbers_are_refused_where_they_matter() -> None:
    assert math.isinf(read_config("x = 1e999")["x"])
    text = published_text(50, cascade=False, masks=False)
    assert text.count("'norm_eval'") == 1
    changed = text.replace("'norm_eval'", "'norm_cfg': dict(type='BN', eps=1e999), 'norm_eval'")
    with pytest.raises(ConfigError, match=r"backbone.norm_cfg.eps .* is inf: it must be a number from 0 to 1"):
        settings_from_config(read_config(changed))
