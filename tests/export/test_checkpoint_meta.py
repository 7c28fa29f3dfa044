"""Configurations in a checkpoint's meta, as text and as pickled objects."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from resnest_export.checkpoint import load_checkpoint

WEIGHTS = {"backbone.a.weight": torch.arange(6.0).view(2, 3), "backbone.a.bias": torch.ones(2)}
CONFIG_3 = "default_scope = 'mmdet'\nmodel = dict(type='FasterRCNN')\n"


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


class Config(dict[str, Any]):
    """A mapping that pickles its items as an argument, as mmengine's ConfigDict does."""

    def __reduce_ex__(self, _: Any) -> tuple[Any, ...]:
        return (Config, (dict(self),), None, None, None)


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        ({"cfg": CONFIG_3, "dataset_meta": {}}, (CONFIG_3, "3.x", None)),
        ({"config": CONFIG_3, "exp_name": "mine.py"}, (CONFIG_3, "2.x", "mine.py")),
        ({"cfg": CONFIG_3, "config": "other = 1"}, (CONFIG_3, "3.x", None)),
        ({"config": " "}, (None, None, None)),
        ({"cfg": 3}, (None, None, None)),
        ({}, (None, None, None)),
    ],
)
def test_the_configuration_in_the_file(tmp_path: Path, meta: dict[str, Any], expected: tuple[Any, ...]) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({"meta": meta, "state_dict": WEIGHTS}, path)
    found = load_checkpoint(path)
    assert (found.config_text, found.config_style, found.config_file) == expected


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
    assert found.config_text is not None
    assert found.config_file == ("mine.py" if kind == "Config" else None)
    model, custom = found.config_text.splitlines()
    assert eval(model.removeprefix("model = ")) == items["model"]
    assert custom.startswith("custom = unreadable('numpy.")
