"""The browser, for the site's search."""

from tests.browser import browser, chromium

__all__ = ["browser", "chromium"]
