"""Says what a file is that isn't a checkpoint of a detector."""

from __future__ import annotations

import tarfile
import zipfile
from codecs import getincrementaldecoder
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnest_export.checkpoint_pickle import StandIn

MAGIC = {
    b"version https://git-lfs": "a Git LFS pointer and not the file itself: fetch it with `git lfs pull`",
    b"%PDF": "a PDF document",
    b"\x1f\x8b": "a gzip archive: unpack it",
    b"\x89HDF": "an HDF5 file of another framework",
    b"\x93NUMPY": "a numpy array",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
}
HEAD = 4096  # bytes that tell what a file is
ZIP = b"PK\x03\x04"


def foreign_file(path: Path) -> str | None:
    """Return what a file is that torch didn't save, to be read after "it is"; None where it may be a checkpoint.

    Raises:
        OSError: it can't be read.
    """
    with path.open("rb") as stream:
        head = stream.read(HEAD)
    if not head:
        return "empty: fetch it again"
    for magic, kind in MAGIC.items():
        if head.startswith(magic):
            return kind
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return "a safetensors file: load it and save its tensors with torch.save"
    if head.startswith(ZIP):
        return _foreign_zip(path)
    if _is_text(head):
        start = head.lstrip(b"\xef\xbb\xbf").lstrip().lower()
        if start.startswith((b"<!doctype html", b"<html")):
            return "a web page, such as a server's error page: fetch the checkpoint again"
        return "text: name a file that torch.save wrote"
    if tarfile.is_tarfile(path):
        return "a tar archive, which torch wrote before version 0.1.10 only: load it and save it again with torch.save"
    return None


def _foreign_zip(path: Path) -> str | None:
    if not zipfile.is_zipfile(path):
        return "damaged, cut short, or not a zip archive: fetch it again"
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.rpartition("/")[2] == "constants.pkl" for name in names):
        return "a TorchScript archive, which holds a program and not weights by name: name the checkpoint of training"
    if not any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return "a zip archive of something else: unpack it"
    return None


def _is_text(head: bytes) -> bool:
    if ZIP.startswith(head) or any(byte < 9 or 13 < byte < 32 for byte in head):
        return False
    try:
        getincrementaldecoder("utf-8")().decode(head)  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return True


def foreign_content(content: Any) -> str:
    """Return what a file that torch saved is, to be read after "it": it has no weights by name."""
    if isinstance(content, StandIn):
        return f"is a pickled {content.kind}, which can't be read without running its code: save its state_dict()"
    if not isinstance(content, Mapping):
        return f"holds a {type(content).__name__}, and no state_dict of tensors"
    for key in ("model", "ema", "state_dict", "net"):
        if isinstance(content.get(key), StandIn) and not content[key]:
            kind = content[key].kind
            what = "a YOLO checkpoint of Ultralytics" if kind.startswith(("ultralytics.", "models.yolo")) else "a file"
            return f"is {what} whose {key!r} is a pickled {kind}, and has no state_dict of tensors"
    if {"state", "param_groups"} <= content.keys() or ("optimizer" in content and "state_dict" not in content):
        return "holds an optimizer's state only, and no state_dict of tensors: name the checkpoint of the weights"
    return "has no state_dict of tensors"
