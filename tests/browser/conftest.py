"""One chromium for all tests of the page; where there is none they are skipped, and say so."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright, expect

expect.set_options(timeout=20_000)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Opener(Protocol):
    """`opened`: a page in a context of its own, without anything remembered."""

    def __call__(self, url: str, **options: Any) -> AbstractAsyncContextManager[Page]: ...


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Headless, the system's own."""
    if CHROMIUM is None:
        pytest.skip("no chromium here, so the dashboard is not looked at: apt-get install chromium")
    async with async_playwright() as playwright:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield browser
        await browser.close()


@pytest.fixture
def opened(browser: Browser) -> Opener:
    """Opens `url`, and fails the test at its end for whatever the page complained of: errors, refused
    policies, requests to anybody but its own origin. `complaints=False` leaves that out."""

    @asynccontextmanager
    async def open_page(
        url: str, *, width: int = 1280, height: int = 860, complaints: bool = True, **options: Any
    ) -> AsyncIterator[Page]:
        context = await browser.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(20_000)
        found: list[str] = []
        page = await context.new_page()
        page.on("pageerror", lambda error: found.append(f"error: {error}"))
        page.on(
            "console", lambda said: found.append(said.text) if said.type in ("error", "warning") else None
        )
        page.on(
            "request",
            lambda request: None if request.url.startswith((url, "data:")) else found.append(request.url),
        )
        try:
            await page.goto(url)
            yield page
        finally:
            await context.close()
        if complaints:
            assert found == []

    return open_page
