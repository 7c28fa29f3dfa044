"""A served page in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.browser import Watch, browser, chromium
from tests.server.page.tools import (
    KEEP_PARSED,
    PATIENCE,
    Open,
)
from tests.server.test_serve import serving

__all__ = ["browser", "chromium"]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    # Nobody reads the server's log: many lines would fill its pipe, and hold it up.
    with serving(RESNEST_LOG_LEVEL="warning") as (url, _):
        yield url


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Return a function that opens an address; in the end nothing may have been fetched from elsewhere, or refused."""
    watches: list[Watch] = []

    def start(address: str, **options: Any) -> Page:
        page = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options}).new_page()
        page.set_default_timeout(PATIENCE)
        page.add_init_script(KEEP_PARSED)
        page.on("filechooser", lambda _: None)  # Playwright takes a while to catch them: from the start, then
        watches.append(Watch(page))
        page.goto(address)
        return page

    yield start
    for watch in watches:
        watch.page.context.close()
        watch.check()


@pytest.fixture
def page(open_page: Open, url: str) -> Page:
    return open_page(url)
