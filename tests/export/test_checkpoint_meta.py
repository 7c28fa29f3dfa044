"""Configurations in a checkpoint's meta, as text and as pickled objects."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from resnest_export.checkpoint import load_checkpoint
from resnest_export.checkpoint_meta import KeptConfig, class_names_in
from tests.export.checkpoint_contents import WEIGHTS, Config

CONFIG_3 = "default_scope = 'mmdet'\nmodel = dict(type='FasterRCNN')\n"


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        ({"cfg": CONFIG_3, "dataset_meta": {}}, KeptConfig(CONFIG_3, "3.x")),
        ({"config": CONFIG_3, "exp_name": "mine.py"}, KeptConfig(CONFIG_3, "2.x")),
        ({"cfg": CONFIG_3, "config": "other = 1"}, KeptConfig(CONFIG_3, "3.x")),
        ({"config": " "}, None),
        ({"cfg": 3}, None),
        ({}, None),
    ],
)
def test_the_configuration_in_the_file(tmp_path: Path, meta: dict[str, Any], expected: KeptConfig | None) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({"meta": meta, "state_dict": WEIGHTS}, path)
    found = load_checkpoint(path)
    assert found.config == expected


ABC, XYZ = ("a", "b", "c"), ["x", "y", "z"]


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        ({"dataset_meta": {"classes": XYZ}}, tuple(XYZ)),
        ({"CLASSES": XYZ}, tuple(XYZ)),
        ({"dataset_meta": {"CLASSES": XYZ}}, tuple(XYZ)),
        ({"CLASSES": ABC}, ABC),
        ({}, None),
        (None, None),
    ],
)
def test_the_classes_in_the_file(tmp_path: Path, meta: dict[str, Any] | None, expected: tuple[str, ...] | None) -> None:
    assert class_names_in(meta) == expected
    path = tmp_path / "checkpoint.pth"
    torch.save({"meta": meta, "state_dict": WEIGHTS}, path)
    assert load_checkpoint(path).classes == expected


class WholeConfig:
    """Pickles (items, file's name, text …), as mmengine's Config does."""

    def __init__(self, items: dict[str, Any], name: str) -> None:
        self.state: tuple[Any, ...] = (items, name, f"{name}\nbase\n", {}, True, set())

    def __getstate__(self) -> tuple[Any, ...]:
        return self.state

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("kind", ["dict", "ConfigDict", "subclass", "Config"])
def test_configurations_as_objects_become_text(tmp_path: Path, protocol: int, kind: str) -> None:
    items: dict[str, Any] = {
        "model": {"type": "FasterRCNN", "depth": 50, "ratios": [0.5, 1.0], "size": (800,), "norm": None, "x": True},
        "custom": np.arange(2),
    }
    kinds: dict[str, Callable[[], Any]] = {
        "dict": lambda: items,
        "ConfigDict": lambda: Config(model=Config(items["model"]), custom=items["custom"]),
        "subclass": lambda: OrderedDict(items),
        "Config": lambda: WholeConfig(Config(items), "C:\\configs\\mine.py"),
    }
    path = tmp_path / "checkpoint.pth"
    torch.save({"meta": {"cfg": kinds[kind]()}, "state_dict": WEIGHTS}, path, pickle_protocol=protocol)
    found = load_checkpoint(path)
    assert found.config is not None
    model, custom = found.config.text.splitlines()
    assert eval(model.removeprefix("model = ")) == items["model"]
    assert custom.startswith("custom = unreadable('numpy.")
