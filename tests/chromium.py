"""The browser in which tests look at pages: Debian's Chromium, or another that is on the PATH."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
PATIENCE = (
    90_000  # milliseconds for what takes a fraction of a second: the machine may be busy many times over
)
needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no browser: apt install chromium (Debian), or have chromium on the PATH"
)


@contextmanager
def started_browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, timeout=PATIENCE)
        yield browser
        browser.close()


class Watched:
    """A page of which is kept what it says on the console and whom it asks."""

    def __init__(self, browser: Browser) -> None:
        viewport, scheme = {"width": 1280, "height": 860}, "light"
        self.context = browser.new_context(viewport=viewport, color_scheme=scheme)  # type: ignore[arg-type]
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def close(self, address: str, *, may_fail: bool = False) -> None:
        """End the page, and check that it said nothing and asked nobody but the server at this address.

        may_fail: answers of 400 and more, which the browser notes by itself, were meant.
        """
        self.context.close()
        noted = [line for line in self.said if not (may_fail and "Failed to load resource" in line)]
        assert noted == []
        assert [url for url in self.asked if not url.startswith((address, "data:image/png;"))] == []
