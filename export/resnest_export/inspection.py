"""`resnest inspect`: what a checkpoint, a configuration or an exported model is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from resnest_core.card import ModelCard, read_card
from resnest_core.errors import ConfigError, MissingExtraError, ParameterError, ResNeStError

MODELS = (".onnx",)
CONFIGURATIONS = (".py", ".json")


def inspect(
    file: Annotated[Path, typer.Argument(help="A checkpoint (.pth), a configuration (.py), or a model (.onnx).")],
    config: Annotated[Path | None, typer.Option(help="The configuration of a checkpoint that keeps none.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a file is, what would be built of it, what differs from the published detector, and what is refused."""
    if not file.is_file():
        raise ParameterError(f"There is no file {file}.")
    found = describe(file, config)
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False, default=str))
    else:
        _show(found, Console(highlight=False, soft_wrap=True))


def describe(file: Path, config: Path | None = None) -> dict[str, Any]:
    """Return what a file is, as plain values.

    Raises:
        ResNeStError: the file can't be read as any of the three.
    """
    if file.suffix.lower() in MODELS:
        return {"kind": "exported model", "file": str(file), "card": read_card(file).model_dump(mode="json")}
    if file.suffix.lower() in CONFIGURATIONS:
        return {"kind": "configuration", "file": str(file), **_of_configuration(file)}
    return {"kind": "checkpoint", "file": str(file), **_of_checkpoint(file, config)}


def _of_configuration(file: Path) -> dict[str, Any]:
    from resnest_export.mmdet_config import (
        differences_from_published,
        nearest_published,
        read_config_file,
        registered_code,
        settings_from_config,
    )

    section = read_config_file(file)
    try:
        settings = settings_from_config(section)
    except ConfigError as error:
        return {"refused": list(error.refusals) or [str(error)]}
    nearest = nearest_published(settings)
    return {
        "detector": settings.family,
        "classes": list(settings.classes) if settings.classes else None,
        "num_classes": settings.num_classes,
        "nearest": nearest,
        "differences": _plain(differences_from_published(settings, nearest)),
        "notes": registered_code(section),
    }


def _of_checkpoint(file: Path, config: Path | None) -> dict[str, Any]:
    try:
        import torch

        from resnest_export.checkpoint import import_weights, load_checkpoint, num_classes
        from resnest_export.configured import configured_detector, explained
        from resnest_export.models import build
    except ImportError as error:
        raise MissingExtraError(error.name or "torch", "export") from error
    checkpoint = load_checkpoint(file)
    found: dict[str, Any] = {
        "sha256": checkpoint.sha256,
        "weights": len(checkpoint.state_dict),
        "parameters": sum(weight.numel() for weight in checkpoint.state_dict.values()),
        "configuration": checkpoint.config.style if checkpoint.config else None,
        "classes": list(checkpoint.classes) if checkpoint.classes else None,
        "notes": list(checkpoint.notes),
    }
    try:
        found["num_classes"] = num_classes(checkpoint.state_dict)
        configured = configured_detector(None, config, checkpoint)
        with torch.device("meta"):
            detector = build(configured.config)
        import_weights(detector, checkpoint.state_dict, "the detector of its configuration", explained)
    except ConfigError as error:
        return found | {"refused": list(error.refusals) or [str(error)]}
    except ResNeStError as error:
        return found | {"refused": [str(error)]}
    settings = configured.config.settings
    return found | {
        "detector": settings.family,
        "settings_from": configured.source,
        "classes": list(settings.classes) if settings.classes else found["classes"],
        "nearest": configured.nearest,
        "differences": _plain(configured.differences),
        "notes": [*found["notes"], *configured.notes],
    }


def _plain(rows: list[tuple[str, Any, Any]]) -> list[dict[str, str]]:
    return [{"setting": path, "published": str(theirs), "here": str(ours)} for path, theirs, ours in rows]


def _show(found: dict[str, Any], console: Console) -> None:
    for key, value in found.items():
        if key == "card":
            _show(ModelCard.model_validate(value).model_dump(), console)
        elif key == "differences":
            console.print(f"differences: {len(value) or 'none'}", markup=False)
            for row in value:
                console.print(f"  {row['setting']}: {row['here']} instead of {row['published']}", markup=False)
        elif isinstance(value, (list, tuple)) and key in ("refused", "notes"):
            for line in value:
                console.print(f"{key.removesuffix('s')}: {line}", markup=False)
        elif value is not None:
            console.print(f"{key}: {_short(value)}", markup=False)


def _short(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        shown = ", ".join(map(str, value[:10]))
        return f"{shown} … ({len(value)})" if len(value) > 10 else shown
    return str(value)
