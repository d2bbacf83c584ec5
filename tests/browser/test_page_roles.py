"""The page over a replica that stands still: tokens and roles, nobody leading, drills, colours, motion."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256

import pytest
from playwright.async_api import expect

from control_plane.adapters.listener import bind, listening
from control_plane.api.build import build
from control_plane.api.guard import own_hosts
from control_plane.ports import LeaderView
from shared.supervise import Supervisor
from shared.vocabulary.node import Api, ApiToken
from shared.vocabulary.terms import ApiRole
from shared.vocabulary.view import Freeze
from tests.browser.conftest import Opener
from tests.support.processes import HOST
from tests.support.still_replica import NOW, StillReplica

pytestmark = pytest.mark.asyncio(loop_scope="session")


@asynccontextmanager
async def still(replica: StillReplica) -> AsyncIterator[str]:
    """Its page's address."""
    sock = bind(f"{HOST}:0")
    port = sock.getsockname()[1]
    async with (
        Supervisor() as supervisor,
        listening(build(replica, hosts=own_hosts(HOST, port, None)), sock, supervisor),
    ):
        yield f"http://{HOST}:{port}"


def token_of(role: ApiRole) -> ApiToken:
    """Of somebody with that role."""
    return ApiToken(
        id=f"{role.value}-1", role=role, sha256=sha256(f"secret-{role.value}".encode()).hexdigest()
    )


async def test_a_viewer_looks_and_an_operator_orders(opened: Opener) -> None:
    """Without a token the page says that one is wanted; a viewer's shows everything and orders nothing; it
    is kept for this tab alone and never sent but as a header."""
    replica = StillReplica()
    tokens = (token_of(ApiRole.VIEWER), token_of(ApiRole.OPERATOR))
    replica.node = replica.node.model_copy(update={"api": Api(tokens=tokens, anonymous_loopback=False)})
    async with still(replica) as url, opened(url, complaints=False) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        head = page.get_by_role("heading", level=1)
        await expect(head).to_have_text("This replica wants a token")
        for role, may in (("viewer", False), ("operator", True)):
            await page.locator(".self button").first.click()
            await page.get_by_role("textbox", name="Token").fill(f"secret-{role}")
            await page.get_by_role("button", name="Use it").click()
            await expect(page.get_by_role("button", name=f"{role}-1 ({role})")).to_be_visible()
            await expect(head).to_have_text(re.compile("^east is down"))
            drain = page.get_by_role("button", name="Drain …")
            await (expect(drain).to_be_enabled() if may else expect(drain).to_be_disabled())
        assert await page.evaluate("sessionStorage.getItem('leeward-token')") == "secret-operator"
        assert "secret" not in str(await page.evaluate("[{...localStorage}, document.cookie, location.href]"))
        assert not [address for address in asked if "secret" in address]


async def test_nobody_leads_and_frozen_by_itself(opened: Opener) -> None:
    """The gravest comes first, the others after it, each with what it means."""
    replica = StillReplica()
    replica.known = LeaderView(None, False, None)
    assert replica.health is not None
    freeze = Freeze(cause="MOST_SILENT", since=NOW, detail="2 of 3 vantages silent: ap-south, eu-west")
    replica.health = replica.health.model_copy(update={"freezes": (freeze,)})
    async with still(replica) as url, opened(url) as page:
        await expect(page.get_by_role("heading", level=1)).to_have_text(
            "Nobody leads: nothing new is decided"
        )
        await expect(page.locator(".others")).to_contain_text("east is down")
        await expect(page.locator(".others")).to_contain_text("Frozen by itself: most observers fell silent")


async def test_drills_under_way_and_past(opened: Opener) -> None:
    """How the one under way goes, what came of the others with their reports; one can be asked for, with
    what it supposes and what would be decided."""
    replica = StillReplica()
    async with still(replica) as url, opened(url) as page:
        orders = page.locator(".orders")
        await expect(orders.get_by_role("progressbar").first).to_be_visible()
        await expect(orders).to_contain_text("drill-23")
        await expect(orders).to_contain_text("passed")
        report = orders.get_by_role("link", name="report")
        answer = await page.request.get(url + (await report.get_attribute("href") or ""))
        assert "sandbox" in answer.headers["content-security-policy"]
        await page.get_by_role("button", name="Start drill …").click()
        await page.get_by_label("Who are you").fill("ann")
        await page.get_by_role("textbox", name="Why").fill("before the launch")
        await expect(page.get_by_role("dialog")).to_contain_text("It is supposed that:")
        await page.get_by_role("button", name="Show the plan").click()
        await expect(page.get_by_role("region", name="The plan")).to_contain_text("If every target in")


async def test_colours_follow_the_system_or_the_switch_and_motion_its_wish(opened: Opener) -> None:
    """Dark where the system is dark; the switch overrules it and is remembered; nothing moves for who
    asked for that; text stands out from its ground by 4.5 to 1 (WCAG 2.2, 1.4.3)."""
    contrast = """() => { const rgb = text => { const probe = document.createElement('canvas').getContext('2d');
        probe.fillStyle = text; probe.fillRect(0, 0, 1, 1); return [...probe.getImageData(0, 0, 1, 1).data].slice(0, 3); };
      const light = text => rgb(text).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
      const of = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
      const ratio = (a, b) => { const [x, y] = [light(of(a)), light(of(b))].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
      return Object.fromEntries([['--ink', '--panel'], ['--quiet', '--panel'], ['--quiet', '--paper'], ['--accent', '--panel'],
        ['--good', '--good-tint'], ['--warn', '--warn-tint'], ['--bad', '--bad-tint'], ['--lost', '--lost-tint'],
        ['--quiet', '--good-tint'], ['--quiet', '--bad-tint'], ['--quiet', '--warn-tint'], ['--quiet', '--lost-tint']]
        .map(([a, b]) => [a + b, ratio(a, b)])); }"""
    async with still(StillReplica()) as url:
        for scheme in ("light", "dark"):
            async with opened(url, color_scheme=scheme, reduced_motion="reduce") as page:
                await expect(page.locator(".world .land, .world .ring").first).to_be_visible()
                paper = await page.evaluate("getComputedStyle(document.body).backgroundColor")
                assert (int(re.findall(r"\d+", paper)[0]) < 60) == (scheme == "dark")
                low = {pair: ratio for pair, ratio in (await page.evaluate(contrast)).items() if ratio < 4.5}
                assert not low
                assert not await page.evaluate(
                    "document.getAnimations().some(animation => animation.playState === 'running')"
                )
                switch = page.get_by_role("button", name=re.compile("^Colours"))
                for _ in range(1 if scheme == "dark" else 2):
                    await switch.click()
                await page.reload()
                other = await page.evaluate("getComputedStyle(document.body).backgroundColor")
                assert other != paper
