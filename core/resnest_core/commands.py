"""`resnest models`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from resnest_core.card import ModelCard, read_card
from resnest_core.errors import InvalidModelError
from resnest_core.published import PUBLISHED
from resnest_core.repository import find_repository, installed_models, network_path


def register(app: typer.Typer) -> None:
    """Add the commands of this package."""
    app.command()(models)


def models(
    repository: Annotated[Path | None, typer.Option(help="The model repository to look in.")] = None,
) -> None:
    """List the detectors: what is published, with its accuracy on COCO val2017, and what is installed."""
    where = find_repository(repository)
    installed = installed_models(where)
    table = Table("name", "family", "backbone", "box AP", "mask AP", "installed", box=None, pad_edge=False)
    for row in PUBLISHED.values():
        mask_ap = "" if row.mask_ap is None else str(row.mask_ap)
        note = _read(where, row.name)[1] if row.name in installed else ""
        table.add_row(row.name, row.family, row.backbone, str(row.box_ap), mask_ap, note)
    for name in installed:
        if name not in PUBLISHED:
            card, note = _read(where, name)
            table.add_row(name, card.family if card else "", card.backbone if card else "", "", "", note)
    console = Console(highlight=False)
    # Piped or in a narrow terminal, a row stays a line.
    console.width = max(console.width, console.measure(table, options=console.options.update(width=1000)).maximum)
    console.print(table)
    console.print(f"AP is the published weights' on COCO val2017. Installed in {where}.", soft_wrap=True)


def _read(repository: Path, name: str) -> tuple[ModelCard | None, str]:
    """Return a model's card, if it can be read, and the text of its row in the table."""
    path = network_path(repository, name)
    try:
        card = read_card(path)
    except InvalidModelError:
        return None, "damaged: export it again"
    own = ", own weights" if name in PUBLISHED and card.box_ap is None else ""
    return card, f"{len(card.classes)} classes, {path.stat().st_size / 2**20:.0f} MiB{own}"
