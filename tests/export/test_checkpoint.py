"""Checkpoints in both of torch's formats: what is read, what is refused, and that nothing pickled ever runs."""

from __future__ import annotations

import builtins
import datetime
import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from resnest_core.errors import CheckpointError
from resnest_export.checkpoint import import_weights, load_checkpoint, num_classes
from resnest_export.models import ZOO, build
from tests.export.checkpoint_contents import same
from tests.weights import keys

WEIGHTS = OrderedDict({"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2), "count": torch.tensor(7)})


class Reduced:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function = function
        self.arguments = arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.arguments


class Config(dict[str, Any]):
    """Like a training framework's configuration: a mapping with a state of its own."""


class History:
    """Like a training framework's log: numpy arrays in an object."""

    def __init__(self) -> None:
        self.values = np.arange(3.0)
        self.best = np.float64(0.4)
        self.methods = {"min": self.smallest}  # pickles as a call of getattr

    def smallest(self) -> None:
        """Nothing that a test needs."""


@pytest.fixture(params=["zip", "older"])
def save(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[object], Path]:
    """Return what saves an object in one of torch's two formats."""

    def write(content: object, name: str = "checkpoint.pth") -> Path:
        torch.save(content, tmp_path / name, _use_new_zipfile_serialization=request.param == "zip")
        return tmp_path / name

    return write


def test_weights_classes_and_hash(save: Callable[[object], Path]) -> None:
    path = save({"meta": {"CLASSES": ("cat", "dog"), "epoch": 12}, "state_dict": WEIGHTS, "optimizer": {"state": {}}})
    checkpoint = load_checkpoint(path)
    assert same(checkpoint.state_dict, WEIGHTS)
    assert checkpoint.classes == ("cat", "dog")
    assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("key", ["classes", "CLASSES"])
def test_classes_of_mmdetection_3(save: Callable[[object], Path], key: str) -> None:
    path = save({"meta": {"dataset_meta": {key: ["cat", "dog"], "palette": [(1, 2, 3)]}}, "state_dict": WEIGHTS})
    assert load_checkpoint(path).classes == ("cat", "dog")


@pytest.mark.parametrize(
    "meta", [None, {}, {"CLASSES": None}, {"CLASSES": "cat"}, {"CLASSES": [1]}, {"dataset_meta": 3}]
)
def test_no_classes_told(save: Callable[[object], Path], meta: object) -> None:
    assert load_checkpoint(save({"meta": meta, "state_dict": WEIGHTS})).classes is None


def test_a_bare_state_dict(save: Callable[[object], Path]) -> None:
    checkpoint = load_checkpoint(save(WEIGHTS))
    assert same(checkpoint.state_dict, WEIGHTS)
    assert checkpoint.classes is None


def test_prefixes_and_averages_go_and_half_precision_becomes_float32(save: Callable[[object], Path]) -> None:
    weights = {
        "module.a.weight": WEIGHTS["a.weight"].half(),
        "module.a.bias": WEIGHTS["a.bias"].bfloat16(),
        "module.count": WEIGHTS["count"],
        "module.ema_a_weight": WEIGHTS["a.weight"] + 1,
        "ema_a_bias": WEIGHTS["a.bias"] + 1,
    }
    found = load_checkpoint(save({"state_dict": weights})).state_dict
    assert same(found, WEIGHTS)
    assert [found[key].dtype for key in ("a.weight", "a.bias", "count")] == [torch.float32, torch.float32, torch.int64]


def test_a_meta_of_foreign_objects_is_read_as_if_they_were_not_there(save: Callable[[object], Path]) -> None:
    meta = {
        "time": datetime.datetime(2020, 9, 26),
        "best": np.float64(0.42),
        "array": np.arange(4),
        "config": Config(model=Config(depth=50), pipeline=[Config(type="Resize")]),
        "folder": PurePosixPath("somewhere"),
        "CLASSES": ("cat", "dog"),
    }
    path = save({"meta": meta, "message_hub": {"log": History()}, "state_dict": WEIGHTS})
    checkpoint = load_checkpoint(path)
    assert same(checkpoint.state_dict, WEIGHTS)
    assert checkpoint.classes == ("cat", "dog")


@pytest.mark.parametrize("where", ["meta", "state_dict", "instead"])
@pytest.mark.parametrize(
    "attack",
    [
        lambda path: Reduced(os.system, f"touch {path}"),
        lambda path: Reduced(builtins.exec, f"open({str(path)!r}, 'w').close()"),
        lambda path: Reduced(builtins.eval, f"open({str(path)!r}, 'w').close()"),
        lambda path: Reduced(builtins.open, str(path), "w"),
        lambda path: Reduced(Path.touch, path),
        lambda path: Reduced(torch.save, {}, str(path)),
    ],
    ids=["os.system", "exec", "eval", "open", "touch", "torch.save"],
)
def test_nothing_pickled_runs(
    save: Callable[[object], Path], tmp_path: Path, attack: Callable[[Path], Reduced], where: str
) -> None:
    touched = tmp_path / "touched"
    evil = attack(touched)
    contents = {
        "meta": {"meta": {"CLASSES": ("cat", "dog"), "evil": evil}, "state_dict": WEIGHTS},
        "state_dict": {"state_dict": {**WEIGHTS, "evil": evil}},
        "instead": evil,
    }
    path = save(contents[where])
    try:
        checkpoint = load_checkpoint(path)
    except CheckpointError:
        pass
    else:
        assert where == "meta"
        assert same(checkpoint.state_dict, WEIGHTS)
    assert not touched.exists()
    # The file does carry the attack: an ordinary reader runs it.
    torch.load(path, weights_only=False)
    assert touched.exists()


@pytest.mark.parametrize(
    "content",
    [3, "text", [], {}, {"state_dict": {}}, {"state_dict": None}, {"state_dict": {"a": 1}}, {1: torch.ones(1)}],
)
def test_no_state_dict(save: Callable[[object], Path], content: object) -> None:
    with pytest.raises(CheckpointError, match=r"is not a checkpoint of a detector"):
        load_checkpoint(save(content))


@settings(max_examples=20)
@given(data=st.data(), zipped=st.booleans())
def test_any_cut_is_damage(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, zipped: bool) -> None:
    path = tmp_path_factory.mktemp("cut") / "checkpoint.pth"
    torch.save({"meta": {}, "state_dict": WEIGHTS}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(CheckpointError, match=r"damaged, cut short|is empty"):
        load_checkpoint(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent\.pth can't be read: No such file"):
        load_checkpoint(tmp_path / "absent.pth")
    with pytest.raises(CheckpointError, match="can't be read: Is a directory"):
        load_checkpoint(tmp_path)


def test_the_hash_in_the_name_is_checked(save: Callable[[object], Path]) -> None:
    path = save({"state_dict": WEIGHTS})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    named = path.rename(path.with_name(f"mask_rcnn_1x_coco_20200926-{digest[:8]}.pth"))
    assert load_checkpoint(named).sha256 == digest
    renamed = named.rename(path.with_name("mask_rcnn_1x_coco_20200926-01234567.pth"))
    with pytest.raises(
        CheckpointError, match=f"damaged or renamed, its sha256 starts with {digest[:8]} and not 01234567"
    ):
        load_checkpoint(renamed)


def module() -> nn.Module:
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 1), norm=nn.BatchNorm2d(4)))


def test_import_sets_every_weight() -> None:
    source, target = module(), module()
    import_weights(target, source.state_dict())
    assert same(target.state_dict(), source.state_dict())


def test_import_without_counters() -> None:
    source, target = module(), module()
    weights = {key: value for key, value in source.state_dict().items() if not key.endswith("num_batches_tracked")}
    import_weights(target, weights)
    assert same(target.state_dict(), source.state_dict())


@given(
    gone=st.sets(st.sampled_from(["conv.weight", "conv.bias", "norm.weight", "norm.running_mean"]), max_size=3),
    more=st.sets(st.sampled_from(["extra", "head.weight"])),
    bent=st.booleans(),
)
def test_import_names_every_key_that_does_not_fit(gone: set[str], more: set[str], bent: bool) -> None:
    target = module()
    before = {key: value.clone() for key, value in target.state_dict().items()}
    weights = {key: value + 1 for key, value in before.items() if key not in gone} | {
        key: torch.ones(1) for key in more
    }
    if bent:
        weights["norm.bias"] = torch.ones(5)
    if not (gone or more or bent):
        import_weights(target, weights, "mine")
        return
    with pytest.raises(CheckpointError) as caught:
        import_weights(target, weights, "mine")
    message = str(caught.value)
    assert message.startswith("The checkpoint doesn't fit mine")
    assert all(key in message for key in gone | more)
    assert [f"{len(gone)} missing" in message, f"{len(more)} unexpected" in message] == [bool(gone), bool(more)]
    assert ("1 misshapen: norm.bias (5,) instead of (4,)" in message) == bent
    assert same(dict(target.state_dict()), before), "a refused checkpoint changes nothing"


@pytest.mark.parametrize("name", ["faster_rcnn_s50", "mask_rcnn_s101", "cascade_rcnn_s50", "cascade_mask_rcnn_s101"])
def test_import_takes_mmdetections_own_keys(name: str) -> None:
    with torch.device("meta"):
        detector = build(ZOO[name])
        import_weights(detector, {key: torch.empty(shape) for key, shape in keys(name).items()})


def test_another_architecture_is_told_with_every_key_and_counts() -> None:
    with torch.device("meta"):
        detector = build(ZOO["faster_rcnn_s50"])
        weights = {key: torch.empty(shape) for key, shape in keys("cascade_mask_rcnn_s101").items()}
    with pytest.raises(CheckpointError, match=r"doesn't fit faster_rcnn_s50") as caught:
        import_weights(detector, weights, "faster_rcnn_s50")
    message = str(caught.value)
    missing = keys("faster_rcnn_s50").keys() - weights.keys()
    counted = [key for key in missing if not key.endswith("num_batches_tracked")]
    assert f"{len(counted)} missing: roi_head.bbox_head." in message
    unexpected = weights.keys() - keys("faster_rcnn_s50").keys()
    assert f"{len(unexpected)} unexpected: " in message
    assert all(key in message for key in unexpected)


@pytest.mark.parametrize("name", [*ZOO])
def test_number_of_classes(name: str) -> None:
    weights = {key: torch.empty(shape, device="meta") for key, shape in keys(name).items()}
    assert num_classes(weights) == 80


def test_no_box_head() -> None:
    with pytest.raises(CheckpointError, match="no fc_cls"):
        num_classes(WEIGHTS)
