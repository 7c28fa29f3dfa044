"""Files that are no checkpoints are refused by what they are."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

from resnest_core.errors import CheckpointError
from resnest_export.checkpoint import load_checkpoint
from tests.export.checkpoint_contents import WEIGHTS


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
        (b"\x80", "damaged, cut short"),
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
