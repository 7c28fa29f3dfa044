"""mmdetection's checkpoints: read without executing anything pickled, and imported strictly."""

from __future__ import annotations

import pickletools
import re
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING  # the names that pickles of protocol 2 give Python 3's modules
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeGuard

import torch
from torch import Tensor, nn

from resnest_core.errors import CheckpointError
from resnest_core.hashing import sha256
from resnest_export.coco_classes import COCO

CLASSIFIERS = ("roi_head.bbox_head.fc_cls.weight", "roi_head.bbox_head.0.fc_cls.weight")
LEGACY_PICKLES = 4  # of torch's older file format: a magic number, the protocol, the system, the object


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a checkpoint file holds: float32 weights by key, the classes' names if it tells them, the file's sha256."""

    state_dict: dict[str, Tensor]
    classes: tuple[str, ...] | None
    sha256: str


def load_checkpoint(path: Path) -> Checkpoint:
    """Read mmdetection's `.pth`, in torch's older format or the zip format.

    Nothing that the file's pickle names is imported or called: torch reads it with `weights_only=True`, and what that
    refuses in `meta` (configurations, histories, numpy scalars) is replaced by inert stand-ins. Weights in half
    precision become float32; moving averages (`ema_…`) and the prefix `module.` are dropped.

    Raises:
        CheckpointError: the file can't be read, is damaged, isn't a checkpoint, or isn't the one its name tells.
    """
    try:
        digest = sha256(path)
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror}.") from error
    named = re.search(r"-([0-9a-f]{8})\.pth$", path.name)
    if named and not digest.startswith(named[1]):
        raise CheckpointError(
            f"{path} is damaged or renamed, its sha256 starts with {digest[:8]} and not {named[1]}: fetch it again."
        )
    content = _read(path)
    weights = content.get("state_dict", content)
    if not _is_state_dict(weights):
        raise CheckpointError(f"{path} is not a checkpoint of a detector: it has no state_dict of tensors.")
    named_weights = {key.removeprefix("module."): value for key, value in weights.items()}
    state_dict = {
        key: value.float() if value.is_floating_point() else value
        for key, value in named_weights.items()
        if not key.startswith("ema_")  # a moving average of the weights, kept beside them in training
    }
    return Checkpoint(state_dict, _classes(content.get("meta")), digest)


def num_classes(state_dict: Mapping[str, Tensor]) -> int:
    """Return the number of classes that a detector's weights tell apart.

    Raises:
        CheckpointError: there is no box head among them.
    """
    for key in CLASSIFIERS:
        if key in state_dict:
            return len(state_dict[key]) - 1  # the last is the background
    raise CheckpointError("The checkpoint is not of a Faster, Mask or Cascade R-CNN: it has no fc_cls.")


def class_names(count: int, file: Path | None, checkpoint: Checkpoint) -> tuple[str, ...]:
    """Return the classes' names: the file's, one a line, else the checkpoint's, else COCO's.

    Raises:
        CheckpointError: the names are not as many as the classes.
    """
    if file is not None:
        try:
            names = tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{file} can't be read as text, one class a line.") from error
        source = str(file)
    elif checkpoint.classes is not None:
        names, source = checkpoint.classes, "the checkpoint's meta"
    else:
        names, source = tuple(COCO), "COCO"
    if len(names) != count:
        raise CheckpointError(
            f"The checkpoint has {count} classes, but {source} names {len(names)}: pass --classes FILE, a name a line."
        )
    return names


def import_weights(module: nn.Module, state_dict: Mapping[str, Tensor], name: str = "this detector") -> None:
    """Load weights into a module, strictly; `name` names it in errors.

    The tensors are shared, not copied: several detectors of one checkpoint take its memory once.

    Raises:
        CheckpointError: counts and names the missing, unexpected and misshapen keys, all kinds at once.
    """
    expected = module.state_dict()
    problems = {
        # Older files lack the counters of batch norms, and nobody reads them.
        "missing": [key for key in expected if key not in state_dict and not key.endswith("num_batches_tracked")],
        "unexpected": [key for key in state_dict if key not in expected],
        "misshapen": [
            f"{key} {tuple(state_dict[key].shape)} instead of {tuple(value.shape)}"
            for key, value in expected.items()
            if key in state_dict and state_dict[key].shape != value.shape
        ],
    }
    if any(problems.values()):
        kinds = "; ".join(f"{len(keys)} {kind}: {', '.join(keys)}" for kind, keys in problems.items() if keys)
        raise CheckpointError(f"The checkpoint doesn't fit {name}: pass one of its architecture; keys {kinds}.")
    module.load_state_dict(dict(state_dict), strict=False, assign=True)


def _is_state_dict(weights: object) -> TypeGuard[Mapping[str, Tensor]]:
    return (
        isinstance(weights, Mapping)
        and len(weights) > 0
        and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in weights.items())
    )


def _classes(meta: object) -> tuple[str, ...] | None:
    """Return the names in a checkpoint's meta: mmdetection 2 keeps `CLASSES`, mmdetection 3 `dataset_meta`."""
    if not isinstance(meta, Mapping):
        return None
    inner = meta.get("dataset_meta")
    for holder in (meta, inner if isinstance(inner, Mapping) else {}):
        for key in ("CLASSES", "classes"):
            names = holder.get(key)
            if isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names):
                return tuple(names)
    return None


class _Inert:
    """Stands in for a class or function of a checkpoint: takes any arguments and any state, and does nothing."""

    def __new__(cls, *_: object, **__: object) -> _Inert:
        return object.__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Forget the state."""


class _InertMapping:
    """The same for what may be a mapping: torch's reader sets items of plain mappings only."""

    def __new__(cls, *_: object, **__: object) -> OrderedDict[str, object]:  # type: ignore[misc]
        return OrderedDict()


def _read(path: Path) -> Mapping[str, Any]:
    try:
        stand_ins: list[Any] = [
            # Numpy's states are tuples, which a plain mapping can't take.
            (_Inert if name.startswith("numpy.") else _InertMapping, name)
            for name in {_todays_name(*pair) for pair in _global_names(path)}
            if not name.startswith("torch.")
        ]
        with torch.serialization.safe_globals(stand_ins):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many classes on damaged files
        raise CheckpointError(
            f"{path} can't be read as a checkpoint: it is damaged, cut short, or holds what is not safe to read."
        ) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} is not a checkpoint of a detector: it has no state_dict of tensors.")
    return content


def _global_names(path: Path) -> Iterator[tuple[str, str]]:
    """Yield module and name of all classes and functions that the file's pickles mention; nothing is unpickled."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith("/data.pkl"):
                    with archive.open(name) as stream:
                        yield from _names_in_pickle(stream)
    else:
        with path.open("rb") as stream:
            for _ in range(LEGACY_PICKLES):
                yield from _names_in_pickle(stream)


def _names_in_pickle(stream: IO[bytes]) -> Iterator[tuple[str, str]]:
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name == "GLOBAL":  # torch writes pickles of protocol 2, which names them so
            module, _, name = str(argument).partition(" ")
            yield module, name


def _todays_name(module: str, name: str) -> str:
    """Return the full name under which torch's reader looks for what a pickle of protocol 2 names."""
    if (module, name) in NAME_MAPPING:
        module, name = NAME_MAPPING[module, name]
    else:
        module = IMPORT_MAPPING.get(module, module)
    return f"{module}.{name}"
