"""The browser, for the example in JavaScript."""

from tests.browser import browser, chromium

__all__ = ["browser", "chromium"]
