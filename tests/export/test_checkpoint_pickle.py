"""Pickles of every protocol with every foreign object are read, and nothing in them runs."""

from __future__ import annotations

import datetime
import os
import zipfile
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from resnest_core.errors import CheckpointError
from resnest_export.checkpoint import load_checkpoint
from tests.export.checkpoint_contents import WEIGHTS, Config, same


class Ordered(OrderedDict[str, Tensor]):
    """A framework's state_dict."""


class Hashable:
    """An element of sets."""


class Touch:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def replaced(found: bytes, old: bytes, new: bytes) -> bytes:
    assert old in found
    assert len(old) == len(new)
    return found.replace(old, new)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False])
def test_every_protocol_and_every_foreign_object(tmp_path: Path, protocol: int, zipped: bool) -> None:
    meta = {
        "CLASSES": ("cat", "dog"),
        "float": np.float64(0.4),
        "array": np.arange(3.0),
        "texts": np.array(["a", "b"]),
        "objects": np.array([{"a": 1}, None], dtype=object),
        "generator": np.random.default_rng(0),
        "set": {1, "a", Hashable()},
        "frozen": frozenset({Config(a=1).get("a")}),
        "time": datetime.datetime(2024, 1, 31, tzinfo=datetime.timezone.utc),
        "delta": datetime.timedelta(1),
        "paths": [Path("a"), PurePosixPath("a"), PureWindowsPath("C:/a")],
        "default": defaultdict(list, {"a": [1]}),
        "counter": Counter("aab"),
        "bytes": b"\x00\xff",
        "array of bytes": bytearray(b"\x00\xff"),
        "long": 1 << 200,
        "long text": "x" * 70_000,
        "method": "text".upper,
        "dtype": torch.float16,
        "size": torch.Size([1, 2]),
        "device": torch.device("cpu"),
        "slice": slice(1, 2),
        "evil": Touch(tmp_path / "touched"),
    }
    path = tmp_path / "epoch_12.pth"
    content = {"meta": meta, "state_dict": Ordered(WEIGHTS), "message_hub": {"log": meta}, "optimizer": {"state": {}}}
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    checkpoint = load_checkpoint(path)
    assert same(checkpoint.state_dict, WEIGHTS)
    assert checkpoint.classes == ("cat", "dog")
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    "old_and_new", [(b"numpy._core", b"numpy.xcore"), (b"PosixPath", b"PosixPaht")], ids=["numpy", "path"]
)
def test_classes_that_this_python_has_not(tmp_path: Path, old_and_new: tuple[bytes, bytes]) -> None:
    """Another major version's numpy, another system's paths: no class is looked up at all."""
    meta = {"CLASSES": ("cat",), "path": PurePosixPath("a"), "best": np.float64(0.5)}
    path = tmp_path / "epoch.pth"
    torch.save({"meta": meta, "state_dict": WEIGHTS}, path, _use_new_zipfile_serialization=False, pickle_protocol=2)
    core = b"numpy._core" if b"numpy._core" in path.read_bytes() else b"numpy.core."
    old, new = old_and_new
    path.write_bytes(replaced(path.read_bytes(), core if old.startswith(b"numpy") else old, new))
    assert load_checkpoint(path).classes == ("cat",)


def attack(*opcodes: bytes) -> bytes:
    return b"\x80\x04" + b"".join(opcodes) + b"."


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


@pytest.mark.parametrize(
    "payload",
    [
        attack(text("os"), text("system"), b"\x93", text("touch PATH"), b"\x85R"),
        attack(text("builtins"), text("set.__class__.mro"), b"\x93", b")R"),
        attack(text("o"), b"\x940", text("os"), text("system"), b"\x93", text("touch PATH"), b"\x85R"),
        attack(b"(", text("touch PATH"), b"ios\nsystem\n"),
        attack(b"(cos\nsystem\n", text("touch PATH"), b"o"),
        attack(b"ctorch.serialization\nload\n", text("PATH"), b"\x85R"),
        # A state for a function, and for a class.
        attack(b"ctorch._utils\n_rebuild_tensor_v2\n", b"}", text("__defaults__"), b")s", b"N\x94", b"\x86b"),
        attack(b"cevil\nClass\n", b"N}", text("dump_patches"), b"\x88s\x86b"),
    ],
)
def test_pickles_written_by_hand_do_nothing(tmp_path: Path, payload: bytes) -> None:
    touched = tmp_path / "t"
    old, new = text("touch PATH"), text(f"touch {touched}")
    payload = payload.replace(old, new)
    file = tmp_path / "evil.pth"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("evil/data.pkl", payload)
        archive.writestr("evil/version", "3\n")
        archive.writestr("evil/byteorder", "little")
    before = torch._utils._rebuild_tensor_v2.__defaults__
    with pytest.raises(CheckpointError):
        load_checkpoint(file)
    assert not touched.exists()
    assert torch._utils._rebuild_tensor_v2.__defaults__ == before
