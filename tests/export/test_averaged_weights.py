"""Averaged weights in checkpoints: which of several sets is taken, and what the report says of it.

The files are made as the training hooks make them: mmengine's swaps the two whenever it saves, mmdetection 2's at the
end of an epoch, before or after the checkpoint is saved.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from resnest_core.errors import CheckpointError
from resnest_export.checkpoint import Checkpoint, load_checkpoint

SHAPES = {"backbone.conv1.weight": (2, 3), "backbone.bn_1.bias": (2,), "roi_head.fc_cls.weight": (4,)}
BUFFERS = {"backbone.bn_1.running_mean": torch.full((2,), 5.0), "backbone.bn_1.num_batches_tracked": torch.tensor(9)}
LAST = {key: torch.full(shape, 1.0) for key, shape in SHAPES.items()}
AVERAGE = {key: torch.full(shape, 2.0) for key, shape in SHAPES.items()}


def load(folder: Path, content: object, *, use_ema: bool) -> Checkpoint:
    torch.save(content, folder / "epoch_12.pth")
    return load_checkpoint(folder / "epoch_12.pth", use_ema=use_ema)


def value(checkpoint: Checkpoint) -> float:
    """Return the number that all weights have, after a look at keys and buffers."""
    found = checkpoint.state_dict
    assert found.keys() == SHAPES.keys() | BUFFERS.keys()
    assert all(torch.equal(found[key], buffer) for key, buffer in BUFFERS.items())
    (number,) = {one for key in SHAPES for one in found[key].flatten().tolist()}
    return float(number)


def flat(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"ema_{key.replace('.', '_')}": one for key, one in weights.items()}


@pytest.mark.parametrize("use_ema", [True, False])
def test_mmengine_saves_the_average_as_state_dict(tmp_path: Path, use_ema: bool) -> None:
    beside = {"steps": torch.tensor(9)} | {f"module.{key}": one for key, one in (LAST | BUFFERS).items()}
    content = {"meta": {}, "state_dict": AVERAGE | BUFFERS, "ema_state_dict": beside}
    checkpoint = load(tmp_path, content, use_ema=use_ema)
    assert value(checkpoint) == 2
    (note,) = checkpoint.notes
    assert note.startswith("The weights at the detector's own keys are the averaged ones already: mmengine")


def config_2(priority: str, more: str = "") -> str:
    return f"custom_hooks = [\n    dict(type='ExpMomentumEMAHook', momentum=0.0001{priority})\n]\n{more}"


@pytest.mark.parametrize("use_ema", [True, False])
@pytest.mark.parametrize(
    "priority", [", priority=49", ", priority='ABOVE_NORMAL'", ", priority='high'", ", priority=p"]
)
def test_a_hook_that_swaps_before_the_file_is_saved(tmp_path: Path, priority: str, use_ema: bool) -> None:
    content = {"meta": {"config": f"p = 49\n{config_2(priority)}"}, "state_dict": AVERAGE | BUFFERS | flat(LAST)}
    checkpoint = load(tmp_path, content, use_ema=use_ema)
    assert value(checkpoint) == 2
    assert "averaged ones already: the configuration's EMAHook swaps them" in checkpoint.notes[0]


@pytest.mark.parametrize(
    "config",
    [
        config_2(""),
        config_2(", priority=50"),
        config_2(", priority='LOW'"),
        config_2(", priority=49", "checkpoint_config = dict(interval=1000, by_epoch=False)\n"),
        config_2("").replace("dict(type=", "{'type': ").replace("momentum=", "'momentum': ").replace("01)", "01}"),
    ],
)
def test_a_hook_that_swaps_after_the_file_is_saved(tmp_path: Path, config: str) -> None:
    content = {"meta": {"config": config}, "state_dict": LAST | BUFFERS | flat(AVERAGE)}
    plain = load(tmp_path, content, use_ema=False)
    assert value(plain) == 1
    assert plain.notes == ("The checkpoint has averaged weights too, which aren't used: --ema takes them.",)
    averaged = load(tmp_path, content, use_ema=True)
    assert value(averaged) == 2
    assert averaged.notes == ("The averaged weights are used.",)


@pytest.mark.parametrize(
    "config",
    [
        None,
        "",
        "model = dict(",
        "model = dict(type='FasterRCNN')",
        config_2(", priority=get()"),
        config_2(", priority=49").replace("custom_hooks", "my_hooks"),
        "hook = dict(type='EMAHook', priority=49)\ncustom_hooks = []",
        "custom_hooks = get()",
        "custom_hooks = ({'type': 'EMAHook', 'priority': 49},)",
        config_2(", priority=49", "_base_ = '../base.py'"),
    ],
)
def test_a_file_that_does_not_tell_when_its_hook_swaps(tmp_path: Path, config: str | None) -> None:
    content = {"meta": {"config": config}, "state_dict": LAST | BUFFERS | flat(AVERAGE)}
    assert value(load(tmp_path, content, use_ema=False)) == 1
    averaged = load(tmp_path, content, use_ema=True)
    assert value(averaged) == 2
    assert "the file doesn't tell whether it did" in averaged.notes[1]


def test_averages_of_buffers_too(tmp_path: Path) -> None:
    """mmdetection 2's own hooks average running statistics as well."""
    mean = {"backbone.bn_1.running_mean": torch.full((2,), 7.0)}
    content = {"state_dict": LAST | BUFFERS | flat(AVERAGE | mean)}
    assert load(tmp_path, content, use_ema=True).state_dict["backbone.bn_1.running_mean"].tolist() == [7, 7]


WRAPPERS = ["", "module.", "_orig_mod.", "module._orig_mod."]


@pytest.mark.parametrize("inner", WRAPPERS)
@pytest.mark.parametrize("outer", WRAPPERS)
@pytest.mark.parametrize("where", ["ema_", "ema.", "ema_state_dict", "state_dict_ema", "model_ema", "ema"])
def test_other_places(tmp_path: Path, where: str, inner: str, outer: str) -> None:
    average: dict[str, Any] = {inner + key: one for key, one in AVERAGE.items()}
    inside: dict[str, Tensor] = LAST | BUFFERS
    content: dict[str, Any] = {}
    if where == "ema_":
        inside |= flat(AVERAGE)
    elif where == "ema.":
        inside |= {f"ema.{key}": one for key, one in average.items()}
    else:
        content[where] = average
    content["state_dict"] = {outer + key: one for key, one in inside.items()}
    plain = load(tmp_path, content, use_ema=False)
    assert value(plain) == 1
    assert "--ema takes them" in plain.notes[0]
    averaged = load(tmp_path, content, use_ema=True)
    assert value(averaged) == 2
    assert averaged.notes[0] == "The averaged weights are used."


@pytest.mark.parametrize("form", ["ema_", "ema."])
def test_only_one_set_is_wrapped(tmp_path: Path, form: str) -> None:
    second = flat(AVERAGE) if form == "ema_" else {f"ema.{key}": one for key, one in (AVERAGE | BUFFERS).items()}
    content = {f"module.{key}": one for key, one in (LAST | BUFFERS).items()} | second
    assert value(load(tmp_path, content, use_ema=False)) == 1
    assert value(load(tmp_path, content, use_ema=True)) == 2


def test_a_file_of_averages_only(tmp_path: Path) -> None:
    content = {"ema_state_dict": {f"module.{key}": one for key, one in (AVERAGE | BUFFERS).items()}}
    with pytest.raises(CheckpointError, match="has averaged weights only: pass --ema"):
        load(tmp_path, content, use_ema=False)
    assert value(load(tmp_path, content, use_ema=True)) == 2


def test_none_is_an_error_where_it_is_asked_for(tmp_path: Path) -> None:
    content = {"state_dict": LAST | BUFFERS}
    with pytest.raises(CheckpointError, match="has no averaged weights: leave --ema out"):
        load(tmp_path, content, use_ema=True)
    assert load(tmp_path, content, use_ema=False).notes == ()


@pytest.mark.parametrize("form", ["ema_", "ema."])
def test_averages_that_do_not_fit(tmp_path: Path, form: str) -> None:
    def named(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return flat(weights) if form == "ema_" else {f"ema.{key}": one for key, one in weights.items()}

    some = {key: one for key, one in AVERAGE.items() if key != "backbone.bn_1.bias"}
    with pytest.raises(CheckpointError, match=r"has no average of backbone\.bn_1\.bias: leave --ema out"):
        load(tmp_path, {"state_dict": LAST | BUFFERS | named(some)}, use_ema=True)
    more = AVERAGE | {"neck.b": torch.ones(1)}
    with pytest.raises(CheckpointError, match=r"averages what it doesn't have, .*neck.b: leave --ema out"):
        load(tmp_path, {"state_dict": LAST | BUFFERS | named(more)}, use_ema=True)
