"""mmdetection's checkpoints: read without executing anything pickled, and imported strictly."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from resnest_core.errors import CheckpointError
from resnest_core.hashing import sha256
from resnest_core.messages import named
from resnest_core.published import PUBLISHED
from resnest_export.averaged_weights import BESIDE, choose
from resnest_export.checkpoint_keys import unwrapped
from resnest_export.checkpoint_kinds import foreign_content, foreign_file
from resnest_export.checkpoint_meta import KeptConfig, class_names_in, kept_config
from resnest_export.checkpoint_pickle import FORCED, StandIn, plain_tensor, read_inert, weights_only_is_forced

CLASSIFIERS = ("roi_head.bbox_head.fc_cls.weight", "roi_head.bbox_head.0.fc_cls.weight")
HOLDERS = ("state_dict", "model", "model_state_dict")  # keys of a file whose value is the state_dict
DATES = ("%Y%m%d", "%d%m%Y", "%m%d%Y")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a checkpoint file holds."""

    state_dict: dict[str, Tensor]
    """Weights by the detector's keys, in float32 where they aren't integers; contiguous, none shared."""
    classes: tuple[str, ...] | None
    """The classes' names, if its meta tells them."""
    sha256: str
    """Of the file."""
    config: KeptConfig | None = None
    """The configuration that it was trained with."""
    notes: tuple[str, ...] = ()
    """Sentences for the report of an export: which of several sets of weights were taken."""


def load_checkpoint(path: Path, *, use_ema: bool = False) -> Checkpoint:
    """Read a `.pth`, in torch's older format or the zip format, of pickle protocols 0 to 5.

    Nothing that the file's pickles name is imported or called. Half, bfloat16 and double precision become float32, the
    prefixes of wrappers (`resnest_export.checkpoint_keys`) go, and so do optimizers and logs.

    Args:
        path: the file.
        use_ema: take the averaged weights (see `resnest_export.averaged_weights`).

    Raises:
        CheckpointError: the file can't be read, is damaged, isn't a checkpoint, isn't the one its name tells, has
            weights that aren't finite or no plain numbers, or has no averaged weights.
    """
    digest = _checked_hash(path)
    content = _read(path)
    weights = _state_dict(content, path)
    beside = next((content[key] for key in BESIDE if _is_mapping_of_strings(content.get(key))), None)
    meta = content.get("meta")
    config = kept_config(meta)
    classes = class_names_in(meta)
    content = {}  # optimizers are as large as the weights
    old_text = config.text if config and config.style == "2.x" else None
    chosen, notes = choose(unwrapped(weights or {}), beside, use_ema=use_ema, config_text=old_text)
    if not chosen:
        raise CheckpointError(f"{path} has averaged weights only: pass --ema.")
    weights = beside = None
    return Checkpoint(
        state_dict=_as_float32(chosen, path),
        classes=classes,
        sha256=digest,
        config=config,
        notes=tuple(notes),
    )


def num_classes(state_dict: Mapping[str, Tensor]) -> int:
    """Return the number of classes that a detector's weights tell apart.

    Raises:
        CheckpointError: there is no box head among them.
    """
    for key in CLASSIFIERS:
        if key in state_dict:
            return len(state_dict[key]) - 1  # the last is the background
    raise CheckpointError("The checkpoint is not of a Faster, Mask or Cascade R-CNN: it has no fc_cls.")


def import_weights(
    module: nn.Module,
    state_dict: Mapping[str, Tensor],
    name: str = "this detector",
    explain: Callable[[Sequence[str]], str] | None = None,
) -> None:
    """Load weights into a module, strictly; `name` names it in errors, and `explain` says what decides keys' shapes.

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
        keys = [key.partition(" ")[0] for keys in problems.values() for key in keys]
        settings = explain(keys) if explain else ""
        reason = f"; these settings decide them: {settings}" if settings else ""
        raise CheckpointError(f"The checkpoint doesn't fit {name}: pass one of its architecture; keys {kinds}{reason}.")
    module.load_state_dict(dict(state_dict), strict=False, assign=True)


def _checked_hash(path: Path) -> str:
    """Return the file's sha256, whose first eight digits a name may end in.

    Raises:
        CheckpointError: it can't be read, or isn't what its name tells.
    """
    try:
        digest = sha256(path)
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror}.") from error
    told = re.search(r"-([0-9a-f]{8})\.pth$", path.name)
    is_published = any(path.name == row.checkpoint for row in PUBLISHED.values())
    if told and (is_published or not _is_date(told[1])) and not digest.startswith(told[1]):
        raise CheckpointError(
            f"{path} is damaged or renamed, its sha256 starts with {digest[:8]} and not {told[1]}: fetch it again."
        )
    return digest


def _is_date(digits: str) -> bool:
    for form in DATES:
        try:
            year = datetime.strptime(digits, form).year
        except ValueError:
            continue
        if 1990 <= year < 2100:
            return True
    return False


def _read(path: Path) -> Mapping[str, Any]:
    try:
        foreign = foreign_file(path)
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror}.") from error
    if foreign:
        raise CheckpointError(f"{path} can't be read as a checkpoint: it is {foreign}.")
    if weights_only_is_forced():
        raise CheckpointError(f"{path} can't be read while {FORCED} is set: unset it, nothing in the file is executed.")
    try:
        content = read_inert(path)
    except Exception as error:  # torch raises many classes on damaged files
        raise CheckpointError(
            f"{path} can't be read as a checkpoint: it is damaged, cut short, or not a file that torch.save wrote."
        ) from error
    if not isinstance(content, Mapping) or (isinstance(content, StandIn) and not content):
        raise CheckpointError(f"{path} is not a checkpoint of a detector: it {foreign_content(content)}.")
    return content


def _state_dict(content: Mapping[str, Any], path: Path) -> Mapping[str, Any] | None:
    """Return the weights by the file's keys; None where it has averaged ones beside only."""
    weights = next((content[key] for key in HOLDERS if isinstance(content.get(key), Mapping)), None)
    if weights is None and any(_is_mapping_of_strings(content.get(key)) for key in BESIDE):
        return None
    if weights is None:
        weights = content
    if not _is_mapping_of_strings(weights):
        raise CheckpointError(f"{path} is not a checkpoint of a detector: it {foreign_content(content)}.")
    return weights


def _is_mapping_of_strings(value: object) -> bool:
    """Return whether a value may be a state_dict: keys to tensors, of whatever kind."""
    return (
        isinstance(value, Mapping)
        and all(isinstance(key, str) for key in value)
        and any(isinstance(one, Tensor) for one in value.values())
    )


def _as_float32(weights: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """Return tensors in float32, contiguous, none shared; `weights` is emptied, so that memory holds one set.

    Raises:
        CheckpointError: names all keys of values that aren't plain tensors, and of such as aren't finite.
    """
    strange = {key: kind for key, value in weights.items() if (kind := plain_tensor(value))}
    if strange:
        kinds = ", ".join(sorted(set(strange.values())))
        raise CheckpointError(
            f"{path} has {len(strange)} weights that aren't plain tensors ({kinds}): {named(sorted(strange))}; save it "
            "with plain ones."
        )
    found: dict[str, Tensor] = {}
    infinite: list[str] = []
    storages: set[int] = set()
    for key in list(weights):
        value: Tensor = weights.pop(key).detach()
        if value.is_floating_point():
            value = value.to(torch.float32)
            # Without a tensor of booleans as long as the weights; NaN is both the least and the greatest.
            if value.numel() and not all(bool(one.isfinite()) for one in value.aminmax()):
                infinite.append(key)
        storage = value.untyped_storage()
        # Not is_contiguous(), which lets sides of one have any stride: torch.export numbers its nodes by those, too.
        plain_stride = torch.empty(value.shape, device="meta").stride()
        if value.stride() != plain_stride or storage.nbytes() != value.nbytes or storage.data_ptr() in storages:
            value = value.clone(memory_format=torch.contiguous_format)
        storages.add(value.untyped_storage().data_ptr())
        found[key] = value
    if infinite:
        raise CheckpointError(
            f"{path} has NaN or infinite numbers in {len(infinite)} of its weights, so training has diverged: name an "
            f"earlier checkpoint; keys {named(infinite)}."
        )
    return found
