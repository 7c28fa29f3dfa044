"""Groups for pytest-xdist: files that share what takes long are one, and the longest come first."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.groups import LONGEST_FIRST, ROOT, SHARED, group


class Item(SimpleNamespace):
    """A test as far as `group` looks at it."""

    def add_marker(self, mark: pytest.MarkDecorator) -> None:
        (self.group,) = mark.args


def grouped(*tests: tuple[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    items: list[Any] = [Item(path=ROOT / path, fixturenames=fixtures) for path, fixtures in tests]
    group(cast(list[pytest.Item], items))
    return [(item.path.relative_to(ROOT).as_posix(), item.group) for item in items]


def test_a_file_is_a_group_unless_one_of_its_tests_shares_something() -> None:
    assert grouped(
        ("tests/b.py", ()), ("tests/a.py", ("triton_home",)), ("tests/c.py", ("traces",)), ("tests/a.py", ())
    ) == [("tests/c.py", "exports"), ("tests/a.py", "triton"), ("tests/a.py", "triton"), ("tests/b.py", "tests/b.py")]


def test_the_longest_come_first_and_others_keep_their_order() -> None:
    last = next(name for name in reversed(LONGEST_FIRST) if name.endswith(".py"))
    tests: list[tuple[str, tuple[str, ...]]] = [("tests/z.py", ()), ("tests/a.py", ()), (last, ()), ("tests/z.py", ())]
    assert [path for path, _ in grouped(*tests)] == [last, "tests/z.py", "tests/z.py", "tests/a.py"]


@pytest.mark.parametrize("name", LONGEST_FIRST)
def test_every_group_listed_exists(name: str) -> None:
    assert name in SHARED.values() or Path(ROOT, name).is_file()


def test_every_shared_fixture_exists(request: pytest.FixtureRequest) -> None:
    known = {fixture for item in request.session.items for fixture in getattr(item, "fixturenames", ())}
    if len({item.path for item in request.session.items}) > 100:  # the whole suite was collected
        assert known >= SHARED.keys()
