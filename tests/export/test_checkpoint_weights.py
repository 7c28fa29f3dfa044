"""Weights as they come: precisions, views, wrappers' prefixes, hashes in names."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from resnest_core.errors import CheckpointError
from resnest_core.published import PUBLISHED
from resnest_export.checkpoint import load_checkpoint
from tests.export.checkpoint_contents import WEIGHTS, same


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
        (None, "quantized"),
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
    if kind == "quantized":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # making one is deprecated
            value = torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)
    torch.save({"state_dict": {**WEIGHTS, "neck.b": value, "neck.a": value}}, path)
    with pytest.raises(
        CheckpointError, match=rf"2 weights that aren't plain tensors \({kind}.*\): neck\.a, neck\.b; save"
    ):
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
