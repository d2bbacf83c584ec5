"""The page over real processes: a region dies and returns while somebody watches another region's replica."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.browser.conftest import Opener
from tests.drill.local_stack import LocalStack, free_port_base

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow, pytest.mark.timeout(300)]


@pytest_asyncio.fixture(loop_scope="session")
async def stack(tmp_path: Path) -> AsyncIterator[LocalStack]:
    """Up, and gone at the end."""
    stack = LocalStack(tmp_path / "stack", free_port_base(start=24_000))
    try:
        done = await asyncio.to_thread(stack.up)
        assert done.returncode == 0, done.stderr
        yield stack
    finally:
        await asyncio.to_thread(stack.leeward, "down")
        stack.http.close()


async def test_a_region_dies_and_returns_before_ones_eyes(opened: Opener, stack: LocalStack) -> None:
    """The head line names it with the way of its traffic within seconds, and is calm again after its return;
    a drill that is asked for here is run by the stack's own agent, and its report can be opened."""
    replica = next(each["url"] for each in stack.status()["control_planes"] if each["region"] == "us-east")
    async with opened(f"{replica}/") as page:
        head = page.get_by_role("heading", level=1)
        calm = re.compile(r"^All clear: 6 of 6 targets healthy, 3 edges follow decision 1\.\d+$")
        await expect(head).to_have_text(calm, timeout=30_000)
        await asyncio.to_thread(stack.kill, "eu-west")
        await expect(head).to_have_text(
            re.compile(r"^eu-west is down: its traffic goes to (us-east|ap-south)"), timeout=30_000
        )
        await asyncio.to_thread(stack.start, "eu-west")
        await expect(head).to_have_text(calm, timeout=90_000)
        await page.get_by_role("button", name="Start drill …").click()
        await page.get_by_role("combobox", name="Drill").select_option("region-outage")
        await page.get_by_role("combobox", name="In", exact=True).select_option("ap-south")
        await page.get_by_label("Who are you").fill("ann")
        await page.get_by_role("textbox", name="Why").fill("before the launch")
        await page.get_by_role("button", name="Show the plan").click()
        await page.get_by_role("button", name="Start region-outage").click()
        await expect(page.get_by_role("status").last).to_have_text(re.compile("is asked for"))
        await page.get_by_role("dialog").get_by_role("button", name="Close").last.click()
        await expect(head).to_have_text(
            re.compile(r"^ap-south is down \(a drill is under way\)"), timeout=90_000
        )
        report = page.locator(".orders").get_by_role("link", name="report")
        await expect(report).to_be_visible(timeout=120_000)
        await expect(page.locator(".orders")).to_contain_text(
            re.compile(r"passed.*region-outage in ap-south")
        )
        answer = await page.request.get(replica + (await report.get_attribute("href") or ""))
        assert answer.status == 200
        assert "text/html" in answer.headers["content-type"]
