"""Statements of the guides about the code are correct."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from resnest_server import Settings
from resnest_server.environment import ELSEWHERE
from scripts.settings_table import PAGE, with_table

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "model_repository/README.md", *ROOT.glob("docs/*.md")]


def test_the_table_of_settings_is_up_to_date() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_table(page), "run `make docs`"
    assert "RESNEST_MAX_QUEUE" in page


def links_of(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))


def test_links_are_found() -> None:
    assert "docs/serving.md" in links_of(ROOT / "README.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links_of(page):
        assert link.startswith(("http://", "https://")) or (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_that_are_named_exist(page: Path) -> None:
    known = {f"RESNEST_{name.upper()}" for name in Settings.model_fields} | set(ELSEWHERE)
    named = set(re.findall(r"RESNEST_[A-Z_]+", page.read_text(encoding="utf-8")))
    assert named <= known
