"""The progress bar of `resnest detect`."""

from __future__ import annotations

import io
import time

from rich.console import Console

from resnest_client.progress import progress_bar


def shown(*, is_terminal: bool) -> str:
    text = io.StringIO()
    with progress_bar(Console(file=text, force_terminal=is_terminal, width=120)) as progress:
        for _ in progress.track(range(5), description="Detecting"):
            time.sleep(0.15)
    return text.getvalue()


def test_how_many_and_how_fast() -> None:
    text = shown(is_terminal=True)
    assert all(part in text for part in ("Detecting", "/5", " images/s"))


def test_nothing_where_nobody_watches() -> None:
    assert shown(is_terminal=False) == ""
