"""Averaged weights (EMA) in a checkpoint, told apart from those of the last iteration.

Where they are depends on who wrote the file, and a hook's names mislead:

- mmengine's EMAHook (mmdetection 3) puts the averaged weights under `state_dict` whenever it saves, and those of the
  last iteration, with the prefix `module.`, under `ema_state_dict`.
- mmdetection 2's hooks keep both in `state_dict`, one as `ema_backbone_conv1_weight`. They swap the two at the end
  of an epoch, before the checkpoint is saved if the hook's priority is above the checkpoint hook's: then `ema_…` are
  those of the last iteration. The configuration in the file tells.
- Others keep the averaged ones under `ema.…`, or beside as `state_dict_ema`, `model_ema` or `ema`.

The weights at the detector's own keys are those that mmdetection itself runs, and the default here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resnest_core.errors import CheckpointError, ConfigError
from resnest_core.messages import named
from resnest_export.checkpoint_keys import unwrapped
from resnest_export.mmdet_config import read_config
from resnest_export.mmdet_config.values import Section, Unevaluated, Value

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")  # which mmcv's EMAHook doesn't average
COUNTERS = ("steps", "n_averaged")  # of mmengine and torch
BESIDE = ("ema_state_dict", "state_dict_ema", "model_ema", "ema")  # keys of a file
CHECKPOINT_PRIORITY = 50  # mmcv's hook; a hook added by the configuration runs after those of the same priority
PRIORITIES = {"HIGHEST": 0, "VERY_HIGH": 10, "HIGH": 30, "ABOVE_NORMAL": 40, "NORMAL": 50, "BELOW_NORMAL": 60}
ALREADY = "The weights at the detector's own keys are the averaged ones already"


def choose(
    plain: Mapping[str, Any], beside: Mapping[str, Any] | None, *, use_ema: bool, config_text: str | None
) -> tuple[dict[str, Any], list[str]]:
    """Return the weights to use, by the detector's keys, and lines that say what else there was.

    Args:
        plain: the file's state_dict; keys that start with `ema_` and `ema.` are the second set.
        beside: a second state_dict of the file (`BESIDE`), as it is.
        use_ema: take the averaged weights.
        config_text: the configuration of mmdetection 2, which tells when its hook swaps the two.

    Raises:
        CheckpointError: averaged weights are asked for and there are none, or not all of them.
    """
    own = unwrapped({key: value for key, value in plain.items() if not key.startswith(("ema_", "ema."))})
    flat = {key.removeprefix("ema_"): value for key, value in plain.items() if key.startswith("ema_")}
    dotted = {key.removeprefix("ema."): value for key, value in plain.items() if key.startswith("ema.")}
    if beside and _is_of_mmengine(beside) and own:
        return own, [f"{ALREADY}: mmengine saves them so, and those of the last iteration as ema_state_dict."]
    swapped = _swapped(config_text) if flat else None
    if swapped:
        return own, [f"{ALREADY}: the configuration's EMAHook swaps them before it is saved."]
    averaged = _without_counters(beside) if beside else unwrapped(dotted)
    if flat and not averaged:
        averaged = _unflattened(flat, own) if use_ema else flat
    if not use_ema:
        note = "The checkpoint has averaged weights too, which aren't used: --ema takes them."
        return own, [note] if averaged else []
    if not averaged:
        raise CheckpointError("The checkpoint has no averaged weights: leave --ema out.")
    without = sorted(key for key in own if key not in averaged and not key.endswith(BUFFERS))
    if without:
        raise CheckpointError(f"The checkpoint has no average of {named(without)}: leave --ema out.")
    more = sorted(f"ema.{key}" for key in averaged if own and key not in own)
    if more:
        raise CheckpointError(f"The checkpoint averages what it doesn't have, {named(more)}: leave --ema out.")
    unsure = flat and swapped is None and not dotted and not beside
    notes = ["The averaged weights are used."]
    if unsure:
        notes.append(
            "mmdetection 2 swaps them with the plain ones where its EMAHook runs before the checkpoint is saved, and "
            "the file doesn't tell whether it did: evaluate it without --ema as well."
        )
    return {**own, **averaged}, notes


def _is_of_mmengine(beside: Mapping[str, Any]) -> bool:
    """Its averaged model is a module around a copy of the detector, and counts its steps."""
    return "steps" in beside and all(key == "steps" or key.startswith("module.") for key in beside)


def _without_counters(beside: Mapping[str, Any]) -> dict[str, Any]:
    """Return the weights of an averaged model, which counts how many it has averaged."""
    return unwrapped({key: value for key, value in beside.items() if key not in COUNTERS})


def _unflattened(flat: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return averages by the detector's keys: in the names of mmdetection 2's, dots are underscores."""
    keys = {key.replace(".", "_"): key for key in own}
    strange = sorted(f"ema_{name}" for name in flat if name not in keys)
    if strange:
        raise CheckpointError(f"The checkpoint averages what it doesn't have, {named(strange)}: leave --ema out.")
    return {keys[name]: value for name, value in flat.items()}


def _swapped(config_text: str | None) -> bool | None:
    """Return whether mmdetection 2's hook has swapped the two in this file; None if the configuration doesn't tell."""
    try:
        config = read_config(config_text or "")
    except ConfigError:
        return None
    saving = config.get("checkpoint_config")
    if isinstance(saving, Section) and saving.get("by_epoch") is False:
        return False  # saved between swaps
    before: bool | None = None
    hooks = config.get("custom_hooks")
    for hook in hooks if isinstance(hooks, list) else []:
        kind = hook.get("type") if isinstance(hook, Section) else None
        if isinstance(kind, str) and "EMAHook" in kind:
            before = _is_before_saving(hook.get("priority", CHECKPOINT_PRIORITY))
    return before


def _is_before_saving(priority: Value) -> bool | None:
    """Return whether a hook of a priority runs before the checkpoint is saved; None if the priority isn't known."""
    if isinstance(priority, Unevaluated):
        return None
    if isinstance(priority, str):
        priority = PRIORITIES.get(priority.upper(), 100)
    return isinstance(priority, int) and priority < CHECKPOINT_PRIORITY
