"""Checkpoints as they come, and files that are none: each is read, or refused by what it is."""

from __future__ import annotations

import datetime
import io
import os
import pickle
import tarfile
import zipfile
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from resnest_core.errors import CheckpointError
from resnest_core.published import PUBLISHED
from resnest_export.checkpoint import load_checkpoint

WEIGHTS = {"backbone.a.weight": torch.arange(6.0).view(2, 3), "backbone.a.bias": torch.ones(2)}
CONFIG_3 = "default_scope = 'mmdet'\nmodel = dict(type='FasterRCNN')\n"


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


class Ordered(OrderedDict[str, Tensor]):
    """A framework's state_dict."""


class Config(dict[str, Any]):
    """A mapping that pickles its items as an argument, as mmengine's ConfigDict does."""

    def __reduce_ex__(self, _: Any) -> tuple[Any, ...]:
        return (Config, (dict(self),), None, None, None)


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


# Tensors.


def test_shared_views_and_precisions_become_float32_in_one_piece(tmp_path: Path) -> None:
    big = torch.arange(12.0).view(3, 4)
    weights = {
        "tied": big,
        "tied too": big,
        "turned": big.t(),
        "part": big[1:, ::2],
        "half": big.half(),
        "bfloat16": big.bfloat16(),
        "double": big.double(),
        "parameter": nn.Parameter(big),
        "count": torch.tensor(2**62),
        "empty": torch.empty(0, 3),
    }
    path = tmp_path / "checkpoint.pth"
    torch.save(weights, path)
    found = load_checkpoint(path).state_dict
    assert all(torch.equal(found[key], value.to(found[key].dtype)) for key, value in weights.items())
    assert {value.dtype for key, value in found.items() if key != "count"} == {torch.float32}
    assert found["count"].dtype == torch.int64
    assert all(value.is_contiguous() and not value.requires_grad for value in found.values())
    found["tied"][0, 0] = 100
    assert found["tied too"][0, 0] == 0


def test_tensors_of_a_gpu(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    stream = io.BytesIO()

    class Pickler(pickle._Pickler):
        def persistent_id(self, value: Any) -> Any:
            if isinstance(value, torch.storage.TypedStorage):
                return ("storage", torch.FloatStorage, "0", "cuda:0", 2)
            return None

    Pickler(stream, 2).dump({"state_dict": {"a": WEIGHTS["backbone.a.bias"]}})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", stream.getvalue())
        archive.writestr("a/version", "3\n")
        archive.writestr("a/byteorder", "little")
        archive.writestr("a/data/0", np.ones(2, np.float32).tobytes())
    assert same(load_checkpoint(path).state_dict, {"a": torch.ones(2)})


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "quantized"),
        (torch.eye(3).to_sparse(), "sparse"),
        (torch.ones(2, device="meta"), "without data"),
        (torch.ones(2, dtype=torch.complex64), "complex"),
        (torch.ones(2).to(torch.float8_e4m3fn), "of a type without arithmetic"),
        (np.ones(2), "a numpy"),
        (3, "a int"),
    ],
    ids=["quantized", "sparse", "meta", "complex", "float8", "numpy", "int"],
)
def test_what_is_no_plain_tensor_is_refused_by_key(tmp_path: Path, value: Any, kind: str) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({"state_dict": {**WEIGHTS, "neck.b": value, "neck.a": value}}, path)
    with pytest.raises(CheckpointError, match=rf"2 weights that aren't plain tensors \({kind}.*\): neck\.a, neck\.b\."):
        load_checkpoint(path)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused_by_key(tmp_path: Path, number: float) -> None:
    path = tmp_path / "checkpoint.pth"
    bad = {f"neck.{place:02}": torch.tensor([0, number]).half() for place in range(12)}
    torch.save({"state_dict": {**WEIGHTS, **bad}}, path)
    with pytest.raises(CheckpointError, match=r"NaN or infinite numbers in 12 .*neck\.00, .*neck\.09 and 2 more\."):
        load_checkpoint(path)


def test_doubles_beyond_float32_are_infinite(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({"a": torch.tensor([1e300], dtype=torch.float64)}, path)
    with pytest.raises(CheckpointError, match="keys a"):
        load_checkpoint(path)


# Wrappers.


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "module.",
        "model.",
        "_orig_mod.",
        "module._orig_mod.",
        "_orig_mod.module.",
        "model.module.",
        "module.module.",
    ],
)
@pytest.mark.parametrize("holder", ["state_dict", "model", "model_state_dict", None])
def test_wrappers(tmp_path: Path, prefix: str, holder: str | None) -> None:
    path = tmp_path / "checkpoint.pth"
    weights = {prefix + key: value for key, value in WEIGHTS.items()}
    torch.save(weights if holder is None else {holder: weights, "epoch": 3}, path)
    assert same(load_checkpoint(path).state_dict, WEIGHTS)


def test_a_part_that_was_compiled(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({key.replace("backbone.", "backbone._orig_mod."): value for key, value in WEIGHTS.items()}, path)
    assert same(load_checkpoint(path).state_dict, WEIGHTS)


def test_one_key_with_a_prefix_stays(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    weights = {**WEIGHTS, "model.head": torch.ones(1)}
    torch.save(weights, path)
    assert same(load_checkpoint(path).state_dict, weights)


def test_two_weights_of_one_key(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({"module.a": torch.ones(1), "module.b": torch.ones(1), "a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match=r"with and without a prefix .*keys a"):
        load_checkpoint(path)


# Names.


@pytest.mark.parametrize("name", ["epoch_12-20240131.pth", "best-31012024.pth", "best-12312024.pth", "epoch-12.pth"])
def test_a_date_is_no_hash(tmp_path: Path, name: str) -> None:
    torch.save(WEIGHTS, tmp_path / name)
    load_checkpoint(tmp_path / name)


@pytest.mark.parametrize("name", ["best-20241331.pth", "best-2024013a.pth", "best-42607475.pth"])
def test_other_eight_digits_are_a_hash(tmp_path: Path, name: str) -> None:
    torch.save(WEIGHTS, tmp_path / name)
    with pytest.raises(CheckpointError, match="damaged or renamed"):
        load_checkpoint(tmp_path / name)


@pytest.mark.parametrize("row", PUBLISHED.values(), ids=lambda row: row.name)
def test_published_names_are_checked(tmp_path: Path, row: Any) -> None:
    torch.save(WEIGHTS, tmp_path / row.checkpoint)
    with pytest.raises(CheckpointError, match=f"and not {row.checkpoint_sha256_prefix}"):
        load_checkpoint(tmp_path / row.checkpoint)


# Configurations.


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


# Files that are none.


def tar_file() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"), io.BytesIO())
    return stream.getvalue()


def zip_file(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "empty"),
        (b"not a checkpoint\n" * 9, "it is text"),
        ("Gewichte für später".encode(), "it is text"),
        (b"\n<!DOCTYPE html><html>404</html>", "a web page"),
        (b"\xef\xbb\xbf<html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a Git LFS pointer"),
        (b"%PDF-1.7\n\x00", "a PDF"),
        (b"\x1f\x8b\x08\x00", "a gzip archive"),
        ((60).to_bytes(8, "little") + b'{"a":{"dtype":"F32"}}' + bytes(60), "a safetensors file"),
        (b"PK\x03\x04 and no zip", "damaged, cut short"),
        (zip_file("word/document.xml"), "a zip archive of something else"),
        (zip_file("a/data.pkl", "a/constants.pkl"), "a TorchScript archive"),
        (zip_file("a/data.pkl"), "damaged, cut short"),
        (tar_file(), "a tar archive"),
        (pickle.dumps({"a": 1}), "not a file that torch.save wrote"),
        (bytes(range(256)), "damaged, cut short"),
    ],
)
def test_files_of_other_kinds(tmp_path: Path, content: bytes, kind: str) -> None:
    path = tmp_path / "checkpoint.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"can't be read as a checkpoint: it is .*{kind}|{kind}") as caught:
        load_checkpoint(path)
    assert str(caught.value).startswith(f"{path} can't be read as a checkpoint: it is ")


class DetectionModel:
    """Like a pickled network of a framework."""


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"model": DetectionModel(), "ema": DetectionModel(), "train_args": {}}, "a YOLO checkpoint of Ultralytics"),
        (DetectionModel(), "is a pickled ultralytics.nn.tasks.DetectionModel, .*: save its state_dict"),
        ({"state": {0: {"a": torch.ones(1)}}, "param_groups": [{"lr": 1}]}, "an optimizer's state only"),
        ({"optimizer": {"state": {}}, "epoch": 3}, "an optimizer's state only"),
        ([torch.ones(1)], "holds a list"),
        ({"state_dict": {}}, "has no state_dict of tensors"),
    ],
)
def test_contents_of_other_kinds(tmp_path: Path, content: object, sentence: str) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save(content, path)
    ours, theirs = f"{__name__}\nDetectionModel\n".encode(), b"ultralytics.nn.tasks\nDetectionModel\n"
    stream = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(stream, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(ours, theirs))
    path.write_bytes(stream.getvalue())
    with pytest.raises(CheckpointError, match=f"is not a checkpoint of a detector: it .*{sentence}|{sentence}"):
        load_checkpoint(path)


def test_a_variable_that_forbids_other_unpicklers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save(WEIGHTS, path)
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(CheckpointError, match="unset it"):
        load_checkpoint(path)
