"""Headless Chromium for tests: `chromium` finds it, or installs it where that is possible; `browser` runs it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
INSTALL = "apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium"
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find() -> str | None:
    """Return the path of a Chromium."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return the path of a Chromium; where there is none, CI fails, and others are told what to install."""
    if find() is None and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(INSTALL, shell=True, capture_output=True, check=False)
    path = find()
    if path is None:
        missing = f"There is no Chromium on PATH: install it, on Debian with `{INSTALL}`."
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return path


# Not for the session: Playwright keeps an event loop running, in which no other test could run its own.
@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """Run Chromium."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=[*ARGUMENTS])
        yield running
        running.close()


class Watch:
    """Keeps what a page fetches and complains of."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.fetched: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.fetched.append(request.url))
        page.on("console", lambda message: self._listen(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def check(self) -> None:
        """Fail if something was fetched from elsewhere, refused by the page's policy, or went wrong in its scripts."""
        origin = "/".join(self.fetched[0].split("/")[:3])
        outside = [url for url in self.fetched if not url.startswith((f"{origin}/", "blob:", "data:"))]
        assert (outside, self.complaints) == ([], [])

    def _listen(self, text: str) -> None:
        if not text.startswith("Failed to load resource"):  # Chromium's word on every status from 400 on
            self.complaints.append(text)
