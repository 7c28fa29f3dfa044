"""Groups for pytest-xdist: files that share what takes long are one, and the longest come first."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.groups import GROUPS, LONGEST_FIRST, SHARED, group_of, sort_by_group

ROOT = Path(__file__).parents[1]


def test_files_that_share_a_fixture_are_one_group_and_others_are_their_own() -> None:
    assert (
        group_of("tests/triton/test_eval.py::test_a[x]") == group_of("tests/export/test_parity.py::test_b") == "triton"
    )
    assert group_of("tests/core/test_card.py::test_a[tests/triton/]") == "tests/core/test_card.py"


def test_the_longest_come_first_and_others_keep_their_order() -> None:
    paths = ["tests/z.py::test_a", "tests/a.py::test_a", "tests/server/page/test_use.py::test_a", "tests/z.py::test_b"]
    items: list[Any] = [SimpleNamespace(nodeid=path) for path in paths]
    sort_by_group(items)
    assert [item.nodeid for item in items] == [paths[2], paths[0], paths[3], paths[1]]


@pytest.mark.parametrize("name", [*LONGEST_FIRST, *(path for paths in GROUPS.values() for path in paths)])
def test_what_is_listed_exists(name: str) -> None:
    assert name in GROUPS or Path(ROOT, name).exists()


def test_files_that_use_a_shared_fixture_are_in_its_group(request: pytest.FixtureRequest) -> None:
    wrong = {
        (item.nodeid.partition("::")[0], fixture)
        for item in request.session.items
        for fixture in SHARED.keys() & set(getattr(item, "fixturenames", ()))
        if group_of(item.nodeid) != SHARED[fixture]
    }
    assert not wrong, "list these files in GROUPS"
