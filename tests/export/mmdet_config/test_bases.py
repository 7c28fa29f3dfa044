"""Base configurations: found beside the file, and merged as mmengine merges them."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resnest_core.errors import ConfigError
from resnest_export.mmdet_config import read_config, read_config_file, settings_from_config, settings_of_published
from resnest_export.mmdet_config.merge import merged
from resnest_export.mmdet_config.values import Section, Unevaluated
from tests.export.mmdet_config.texts import plain, published_text, text_of


def read(folder: Path, **files: str) -> Section:
    """Write files, of which `main` is read."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return read_config_file(folder / "main.py")


def test_dictionaries_are_merged_and_everything_else_is_replaced(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        base="model = dict(a=1, b=dict(c=2, d=3), e=[1, 2], f=(1,))\nx = 1\ny = 2",
        main="_base_ = './base.py'\nmodel = dict(b=dict(d=4, g=5), e=[3], f=None)\ny = 3",
    )
    assert config == {"model": {"a": 1, "b": {"c": 2, "d": 4, "g": 5}, "e": [3], "f": None}, "x": 1, "y": 3}


def test_delete_replaces_the_base_dictionary(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        base="model = dict(a=dict(b=1, c=2), d=dict(e=dict(f=1)))",
        main="_base_ = ['base.py']\nmodel = dict(a=dict(_delete_=True, c=3), d=dict(e=dict(_delete_=False, g=2)))",
    )
    assert config == {"model": {"a": {"c": 3}, "d": {"e": {"f": 1, "g": 2}}}}


def test_delete_without_a_base_stays_a_key_as_in_mmengine(tmp_path: Path) -> None:
    assert read(tmp_path, base="", main="_base_ = 'base.py'\nm = dict(a=dict(_delete_=True))") == {
        "m": {"a": {"_delete_": True}}
    }


def test_several_bases_and_bases_of_bases(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "deep.py").write_text("_base_ = '../one.py'\na = dict(y=2)")
    config = read(tmp_path, one="a = dict(x=1)", two="b = 2", main="_base_ = ['sub/deep.py', 'two.py']\nb = 3")
    assert config == {"a": {"x": 1, "y": 2}, "b": 3}


def test_base_variables(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        base="size = 640\npipe = [dict(scale=(size, size))]\nmodel = dict(a=dict(b=7))",
        main="_base_ = 'base.py'\nx = {{_base_.size}}\ny = dict(p={{ _base_.pipe }}, q=[{{_base_.model.a.b}}])\n"
        "z = _base_.model.a.b + 1\nw = _base_.pipe[0]['scale']\nu = {{_base_.missing}}\nv = '{{_base_.size}}'",
    )
    assert config["x"] == 640
    assert config["y"] == {"p": [{"scale": (640, 640)}], "q": [7]}
    assert (config["z"], config["w"]) == (8, (640, 640))
    assert isinstance(config["u"], Unevaluated)
    assert isinstance(config["v"], Unevaluated)  # mmengine puts something in quotes there


def test_predefined_variables(tmp_path: Path) -> None:
    config = read(tmp_path, main="a = '{{ fileBasenameNoExtension }}/{{fileBasename}}'\nb = '{{ fileDirname }}'")
    assert config == {"a": "main/main.py", "b": str(tmp_path)}


def test_windows_separators_in_base_paths(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    assert read(tmp_path, base="a = 1", main="_base_ = '.\\\\sub\\\\..\\\\base.py'") == {"a": 1}


def test_json_with_a_base(tmp_path: Path) -> None:
    (tmp_path / "base.py").write_text("model = dict(a=1, b=dict(c=2))")
    (tmp_path / "main.json").write_text('{"_base_": "base.py", "model": {"b": {"d": 3}}}')
    assert read_config_file(tmp_path / "main.json") == {"model": {"a": 1, "b": {"c": 2, "d": 3}}}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"main": "_base_ = 'missing.py'"}, r"main\.py: its base missing\.py doesn't exist"),
        ({"main": "_base_ = 'main.py'"}, r"builds on main\.py itself: break the circle"),
        ({"main": "_base_ = 'one.py'", "one": "_base_ = 'main.py'"}, r"one\.py: its base main\.py builds on one\.py"),
        ({"main": "_base_ = ['one.py', 'two.py']", "one": "a = 1", "two": "a = 1"}, "a is in more than one base"),
        ({"main": "_base_ = 'one.py'\na = dict(b=1)", "one": "a = 1"}, r"main\.py, line 2: a is a dict.*_delete_=True"),
        ({"main": "_base_ = 'one.py'\na = dict(b=dict(c=1))", "one": "a = dict(b=[1])"}, r"b is a dict.*\[1\]"),
        ({"main": "_base_ = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'"}, "installed package"),
        ({"main": "_base_ = 'one.py'", "one": "a = ("}, r"one\.py, line 1, isn't valid Python"),
        ({"main": "_base_ = ('one.py',)"}, "isn't a path or a list"),
    ],
)
def test_bases_that_cannot_be_used(files: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, **files)


@pytest.mark.parametrize("code", ["foo(_base_.model)", "foo(_base_)", "exec('')", "x = [foo(b) for b in [_base_]]"])
def test_code_that_may_change_a_base_makes_it_unknown(code: str, tmp_path: Path) -> None:
    config = read(tmp_path, base="model = dict(a=1)", main=f"_base_ = 'base.py'\n{code}\nmodel = dict(b=2)")
    assert isinstance(config["model"], Unevaluated)


def test_long_chains_of_bases_end(tmp_path: Path) -> None:
    files = {f"c{i}": f"_base_ = 'c{i + 1}.py'" for i in range(80)}
    with pytest.raises(ConfigError, match="chain of more than 64 bases"):
        read(tmp_path, **files, main="_base_ = 'c0.py'")


def test_what_a_base_cannot_evaluate_is_kept_with_its_file(tmp_path: Path) -> None:
    config = read(
        tmp_path, base="model = dict(a=foo(), b=1)", main="_base_ = 'base.py'\nmodel = dict(a=dict(x=1), b=2)"
    )
    assert config["model"]["b"] == 2
    assert isinstance(config["model"]["a"], Unevaluated)
    assert config["model"]["a"].place.source.endswith("base.py")


def test_a_fine_tuned_configuration_on_a_base(tmp_path: Path) -> None:
    """The commonest file: a base, three classes, another scale."""
    config = read(
        tmp_path,
        base=published_text(50, cascade=False, masks=True),
        main="_base_ = './base.py'\nclasses = ('a', 'b', 'c')\n"
        "model = dict(roi_head=dict(bbox_head=dict(num_classes=3), mask_head=dict(num_classes=3)))\n"
        "data = dict(test=dict(classes=classes))",
    )
    own = settings_from_config(config)
    assert own.classes == ("a", "b", "c")
    assert own.num_classes == 3
    assert own.backbone == settings_of_published("mask_rcnn_s50").backbone


def test_a_chain_of_bases_in_mmdetection_3s_layout(tmp_path: Path) -> None:
    """Model, data set, schedule and runtime are bases of a ResNet's configuration, and that is the base of ours."""
    whole = plain("two_fc_soft")
    expected = settings_from_config(read_config(text_of(whole)))
    model, backbone = whole["model"], whole["model"]["backbone"]
    own = {"backbone": {"_delete_": True, **backbone}, "data_preprocessor": model["data_preprocessor"]}
    of_resnet = {**model, "backbone": {"type": "ResNet", "depth": 50}, "data_preprocessor": {"pad_size_divisor": 32}}
    data = {name: whole[name] for name in ("backend_args", "test_pipeline", "test_dataloader", "metainfo")}
    folder = tmp_path / "configs"
    for name, text in {
        "_base_/models/faster.py": text_of({"model": of_resnet}),
        "_base_/datasets/own.py": text_of(data),
        "_base_/default_runtime.py": "default_scope = 'mmdet'\nlog_level = 'INFO'",
        "faster/faster.py": "_base_ = ['../_base_/models/faster.py', '../_base_/datasets/own.py',\n"
        "          '../_base_/default_runtime.py']",
        "resnest/own.py": f"_base_ = '../faster/faster.py'\nmodel = {own!r}\n"
        "train_pipeline = [dict(type='LoadImageFromFile', backend_args={{_base_.backend_args}})]\n"
        "test_dataloader = dict(dataset=dict(pipeline={{_base_.test_pipeline}}))",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    start = time.process_time()
    config = read_config_file(folder / "resnest" / "own.py")
    assert settings_from_config(config) == expected
    assert time.process_time() - start < 0.5
    assert config["train_pipeline"] == [{"type": "LoadImageFromFile", "backend_args": None}]


SCALARS = st.none() | st.booleans() | st.integers(0, 9) | st.sampled_from(["", "x"])
KEYS = ["a", "b", "c", "d"]


def dictionaries(*, child: bool) -> st.SearchStrategy[dict[str, Any]]:
    leaves = SCALARS | st.lists(SCALARS, max_size=2)
    keys = st.sampled_from([*KEYS, "_delete_"] if child else KEYS)
    nested = st.recursive(leaves, lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=8)
    return st.dictionaries(st.sampled_from(KEYS), nested, max_size=3)


def sections(value: Any) -> Any:
    if isinstance(value, dict):
        return Section({key: sections(item) for key, item in value.items()})
    return value


def reference(child: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """Return what mmengine documents, written plainly."""
    result = copy.deepcopy(base)
    for key, value in child.items():
        if isinstance(value, dict) and key in base:
            value = copy.deepcopy(value)
            if value.pop("_delete_", False):
                result[key] = value
            elif isinstance(base[key], dict):
                result[key] = reference(value, base[key])
            else:
                raise TypeError
        else:
            result[key] = value
    return result


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(child=dictionaries(child=True), base=dictionaries(child=False))
def test_merging_agrees_with_a_plain_reference(child: dict[str, Any], base: dict[str, Any]) -> None:
    ours, theirs = sections(child), sections(base)
    try:
        expected = reference(child, base)
    except TypeError:
        with pytest.raises(ConfigError, match="can't be merged"):
            merged(ours, theirs)
    else:
        assert merged(ours, theirs) == expected
    assert (ours, theirs) == (child, base)  # unchanged
