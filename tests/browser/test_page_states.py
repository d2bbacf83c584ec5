"""What somebody sees who opens the page: each state of the fleet, in the words of its head line."""

import re
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import Opener
from tests.support.on_air import fleet_of, on_air
from tests.support.processes import until

pytestmark = pytest.mark.asyncio(loop_scope="session")

TEN = (
    *("us-east", "eu-west", "ap-south", "us-west", "eu-central"),
    *("ap-northeast", "sa-east", "ap-southwest", "mars-1", "eu-north"),
)


async def no_wider_than_the_screen(page: Page) -> None:
    """Nothing makes one scroll sideways."""
    widths = await page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1], widths


async def test_all_is_well(opened: Opener) -> None:
    """The head line says so with its figures; the map has every region; nothing is asked of anybody else;
    all of it is under 500 KB."""
    sizes: list[int] = []

    async def weigh(response: Any) -> None:
        if not response.url.endswith("/v1/live"):
            sizes.append(len(await response.body()))

    async with on_air() as world, opened("about:blank", complaints=False) as page:
        page.on("response", weigh)
        complaints: list[str] = []
        page.on("console", lambda said: complaints.append(said.text))
        page.on("request", lambda asked: None if world.url in asked.url else complaints.append(asked.url))
        await page.goto(world.url)
        await expect(page.get_by_role("heading", level=1)).to_have_text(
            re.compile(r"^All clear: 6 of 6 targets healthy, 3 edges follow decision 1\.\d+$")
        )
        for region in world.brokers:
            await expect(
                page.get_by_role("button", name=f"{region}: healthy, 2 of 2 targets healthy")
            ).to_be_visible()
        await expect(page.get_by_text("live", exact=True)).to_be_visible()
        await expect(page).to_have_title(re.compile("^All clear"))
        assert sum(sizes) < 500_000
        assert not [said for said in complaints if "data:" not in said]


async def test_a_region_is_down(opened: Opener) -> None:
    """It is named, with where its traffic goes; each vantage's word is shown by pointer and by focus; and
    the decision is explained by its events and its trace."""
    async with on_air() as world, opened(world.url) as page:
        world.down |= {"alpha-eu-west", "beta-eu-west"}
        await expect(page.get_by_role("heading", level=1)).to_have_text(
            "eu-west is down: its traffic goes to us-east"
        )
        await no_wider_than_the_screen(page)
        cell = page.get_by_role("img", name="alpha-eu-west from ap-south: down")
        await cell.hover()
        await expect(page.get_by_role("tooltip")).to_contain_text("connect ECONNREFUSED")
        await page.mouse.move(1, 1)
        await expect(page.get_by_role("tooltip")).to_be_hidden()
        await cell.focus()
        await expect(page.get_by_role("tooltip")).to_contain_text("as seen from ap-south: down")
        await page.set_viewport_size({"width": 390, "height": 844})
        await no_wider_than_the_screen(page)
        dialog, told = page.get_by_role("dialog"), ""
        for line in await page.locator(".timeline li", has_text="left the traffic").all():
            # Two vantages may have told it before the third: then two decisions did it.
            await line.get_by_role("button").click()
            await expect(dialog.get_by_role("heading", name="The events behind it")).to_be_visible()
            await expect(dialog.get_by_text("asking what stood before")).to_have_count(0)
            told += re.sub(r"\s+", " ", await dialog.inner_text())
            await no_wider_than_the_screen(page)
            await page.keyboard.press("Escape")
            await expect(dialog).to_have_count(0)
        assert re.search(r"prober-(us-east|ap-south) 1\.\d+", told), told
        assert "leeward trace 0af7651916cd43dd8448eb211c80319c" in told
        assert "eu-west alpha-eu-west 100 % 0 %" in told, told


async def test_frozen_and_thawed_from_the_page(opened: Opener) -> None:
    """Who froze it, why, until when; time runs down; the end of it asks for a name and a reason."""
    async with on_air() as world, opened(world.url) as page:
        await world.give(kind="freeze", reason="the probers' network is being worked on")
        head = page.get_by_role("heading", level=1)
        await expect(head).to_have_text(re.compile("^Frozen by ann until .*: the probers' network"))
        left = page.locator(".orders .left")
        await expect(left).to_have_text(re.compile("9 min"))
        before = await left.text_content()
        await expect(left).not_to_have_text(before or "")
        await page.get_by_role("button", name=re.compile("^unfreeze")).click()
        await page.get_by_label("Who are you").fill("bob")
        await page.get_by_role("textbox", name="Why").fill("work is done")
        await page.get_by_role("button", name="Show the plan").click()
        await page.get_by_role("button", name="Unfreeze", exact=True).click()
        await page.get_by_role("dialog").get_by_role("button", name="Close").last.click()
        await expect(head).to_have_text(re.compile("^All clear"))
        (over,) = (await world.get("/v1/overrides?all=true"))["overrides"]
        assert (over["state"], over["ended"]["by"], over["ended"]["reason"]) == (
            "LIFTED",
            "bob",
            "work is done",
        )


async def test_a_replica_without_etcd_and_a_page_without_its_replica(opened: Opener) -> None:
    """Each says how old what one sees is, and each is well again by itself when its other side is back."""
    async with on_air() as world, opened(world.url, complaints=False) as page:
        head = page.get_by_role("heading", level=1)
        await expect(head).to_have_text(re.compile("^All clear"))
        world.links["cp-us-east"].link.cut = True
        await expect(head).to_have_text(
            re.compile(r"^This replica has lost etcd: what you see of decisions and orders is \d+ s old")
        )
        world.links["cp-us-east"].link.cut = False
        await expect(head).to_have_text(re.compile("^All clear"))
        world.stops["cp-us-east"].set()
        await expect(head).to_have_text(
            re.compile(r"^The page has lost the replica: what you see is \d+ s old")
        )
        await expect(page.get_by_role("button", name="Drain …")).to_be_disabled()
        await expect(page.get_by_text(re.compile(r"^cut off \d+ s"))).to_be_visible()


async def test_two_hundred_targets(opened: Opener) -> None:
    """Who is ill stands first and unfolded, who is well is folded by region; a word finds a target; and a
    narrow screen has room for it."""
    async with on_air(fleet_of(TEN, per_region=20)) as world, opened(world.url) as page:
        world.down |= {"alpha-eu-west-3", "beta-eu-west-1"}
        head = page.get_by_role("heading", level=1)
        await expect(head).to_have_text(
            "alpha-eu-west-3 and beta-eu-west-1 are down: others serve in their place"
        )
        groups = page.locator(".matrix .group button")
        await expect(groups).to_have_count(10)
        await expect(groups.first).to_have_text(re.compile("eu-west 18 of 20 healthy"))
        assert await groups.first.get_attribute("aria-expanded") == "true"
        assert await groups.last.get_attribute("aria-expanded") == "false"
        await expect(page.locator(".matrix tr.DOWN")).to_have_count(2)
        await page.get_by_label("Filter targets").fill("gamma sa-east")
        await expect(page.locator('.matrix th[scope="row"]')).to_have_count(5)
        await page.get_by_label("Filter targets").fill("")
        await page.get_by_label("not healthy only").check()
        await expect(page.locator('.matrix th[scope="row"]')).to_have_count(2)
        await no_wider_than_the_screen(page)
        await page.set_viewport_size({"width": 390, "height": 844})
        await no_wider_than_the_screen(page)
        spots = page.locator(".spot")
        await expect(spots).to_have_count(10)

        async def apart() -> bool:
            boxes = [await spot.locator(".sign").bounding_box() for spot in await spots.all()]
            centres = [(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2) for box in boxes if box]
            return len(centres) == 10 and all(
                abs(one[0] - other[0]) + abs(one[1] - other[1]) > 20
                for n, one in enumerate(centres)
                for other in centres[:n]
            )

        await until(apart, within_s=5, what="two regions stand on one spot")
