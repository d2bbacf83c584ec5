"""What a person may do from the page, and what nobody may do from any other."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from playwright.async_api import Page, expect

from tests.browser.conftest import Opener
from tests.support.on_air import OnAir, on_air
from tests.support.processes import HOST, free_ports

pytestmark = pytest.mark.asyncio(loop_scope="session")

CANARY = '<img src=x onerror="window.sung=1">\'><script>window.sung=1</script>{{7*7}}'


async def fill_drain(page: Page, whom: str, *, reason: str = "new racks") -> None:
    """Everything that the dialog asks for."""
    await page.get_by_role("button", name="Drain …").click()
    await page.get_by_role("combobox", name="What").fill(whom)
    await page.get_by_label("Who are you").fill("ann")
    await page.get_by_role("textbox", name="Why").fill(reason)


async def test_a_region_is_drained_with_plan_and_reason(opened: Opener) -> None:
    """Nothing can be ordered before a name, a reason and the plan; the order is on record with both; the
    page names the decision that carries it; a changed question makes the plan void."""
    async with on_air() as world, opened(world.url) as page:
        await page.get_by_role("button", name="Drain …").click()
        await page.get_by_role("combobox", name="What").fill("eu-west")
        await expect(page.get_by_role("button", name="Show the plan")).to_be_disabled()
        await page.get_by_label("Who are you").fill("ann")
        await page.get_by_role("textbox", name="Why").fill("new racks")
        await page.get_by_role("button", name="Show the plan").click()
        plan = page.get_by_role("region", name="The plan")
        await expect(plan.get_by_role("row", name="alpha-eu-west 100 % 0 % 0 %").first).to_be_visible()
        await expect(plan.get_by_role("row", name="alpha-us-east 0 % 100 % 100 %").first).to_be_visible()
        assert (await world.get("/v1/overrides"))["overrides"] == []
        await page.get_by_role("combobox", name="What").fill("ap-south")
        await expect(plan).to_have_count(0)
        await page.get_by_role("combobox", name="What").fill("eu-west")
        await expect(plan).to_be_visible()
        await page.get_by_role("button", name="Drain eu-west", exact=True).click()
        await expect(page.get_by_role("status").last).to_have_text(
            re.compile(r"^Ordered as drain-\d+; carried by decision 1\.\d+")
        )
        await page.get_by_role("dialog").get_by_role("button", name="Close").last.click()
        (order,) = (await world.get("/v1/overrides"))["overrides"]
        assert (order["spec"]["region"], order["author"], order["reason"], order["forced"]) == (
            *("eu-west", "ann", "new racks"),
            False,
        )
        await expect(page.locator(".orders")).to_contain_text(
            re.compile(r"eu-west is drained on all routes.*left")
        )
        await expect(
            page.get_by_role("button", name=re.compile("^eu-west: healthy.*drained"))
        ).to_be_visible()


async def test_a_refusal_comes_before_force(opened: Opener) -> None:
    """To drain the last place that answers is refused, in words; only then can it be forced, on purpose."""
    async with on_air() as world, opened(world.url) as page:
        world.down |= {f"{who}-{where}" for who in ("alpha", "beta") for where in ("eu-west", "ap-south")}
        await expect(page.get_by_role("heading", level=1)).to_have_text(
            re.compile("^ap-south and eu-west are down: their traffic goes to us-east$")
        )
        await fill_drain(page, "us-east")
        await expect(page.get_by_text("force it")).to_have_count(0)
        await page.get_by_role("button", name="Show the plan").click()
        await expect(
            page.get_by_text(re.compile("^Refused: nobody who answers would be left"))
        ).to_have_count(2)
        by_force = page.get_by_role("button", name="Drain us-east by force")
        await expect(by_force).to_be_disabled()
        await page.get_by_label("I have read why it is refused").check()
        await by_force.click()
        await expect(page.get_by_role("status").last).to_have_text(re.compile("^Ordered as drain-"))
        (order,) = (await world.get("/v1/overrides"))["overrides"]
        assert order["forced"]


async def test_what_people_write_stays_text(opened: Opener) -> None:
    """Markup in a reason is shown letter by letter, and runs nowhere: head line, orders, timeline, why."""
    async with on_air() as world, opened(world.url) as page:
        await world.give(kind="drain", region="eu-west", reason=CANARY)
        await world.carried("DRAINED", "eu-west")
        await expect(page.locator(".others")).to_contain_text(CANARY)
        await expect(page.locator(".orders")).to_contain_text(CANARY)
        line = page.locator(".timeline li", has_text="drained by ann").first
        await expect(line).to_contain_text(CANARY)
        await line.get_by_role("button").click()
        await expect(page.get_by_role("dialog")).to_contain_text(CANARY)
        assert await page.evaluate("window.sung") is None
        assert await page.locator("img").count() == 0


async def test_by_keyboard_alone(opened: Opener) -> None:
    """From the top: every stop can be seen, arrows walk the grid, a drain is ordered, Escape returns to
    where one was."""
    async with on_air() as world, opened(world.url) as page:
        await expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("^All clear"))
        seen: list[str] = []
        for _ in range(16):
            await page.keyboard.press("Tab")
            told = await page.evaluate(
                """() => { const here = document.activeElement;
                  const ring = getComputedStyle(here.querySelector('.reach') ?? here);
                  return [here.getAttribute('aria-label') ?? here.textContent.trim(),
                          ring.outlineStyle !== 'none' || (ring.stroke && ring.stroke !== 'none')]; }"""
            )
            assert told[1], f"the focus on {told[0]!r} cannot be seen"
            seen.append(told[0])
        assert seen[:4] == ["Skip to the page", "Drain …", "Freeze …", "Start drill …"]
        assert any(name.startswith("eu-west: healthy") for name in seen)
        await page.locator(".matrix [data-cell]").first.focus()
        for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
            await page.keyboard.press(key)
        await expect(page.locator(":focus")).to_have_attribute(
            "aria-label", "alpha-ap-south from ap-south: healthy"
        )
        await expect(page.get_by_role("tooltip")).to_contain_text("as seen from ap-south: healthy")
        drain = page.get_by_role("button", name="Drain …")
        await drain.focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("dialog")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(drain).to_be_focused()
        await expect(page.get_by_role("dialog")).to_have_count(0)
        await page.keyboard.press("Enter")
        await page.get_by_role("combobox", name="What").focus()
        await page.keyboard.type("alpha-eu-west")
        for text in ("", "", "ann", "new racks"):
            await page.keyboard.press("Tab")
            await page.keyboard.type(text)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("region", name="The plan")).to_be_focused()
        go = page.get_by_role("button", name="Drain alpha-eu-west", exact=True)
        for _ in range(4):
            await page.keyboard.press("Tab")
            if await go.evaluate("button => button === document.activeElement"):
                break
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("status").last).to_have_text(re.compile("carried by decision"))
        assert (await world.get("/v1/overrides"))["overrides"][0]["spec"]["target"] == "alpha-eu-west"


FOREIGN = """<!doctype html><title>elsewhere</title><body><script>
const order = JSON.stringify({kind: "drain", region: "eu-west", for_s: 600, author: "eve", reason: "because"});
const to = "URL/v1/overrides", tried = [];
const attempt = (name, options) => tried.push(fetch(to, {method: "POST", body: order, ...options})
  .then(answer => `${name} ${answer.type} ${answer.status}`, error => `${name} failed`));
attempt("json", {headers: {"content-type": "application/json"}});
attempt("no-cors", {mode: "no-cors", headers: {"content-type": "application/json"}});
attempt("text", {mode: "no-cors", headers: {"content-type": "text/plain"}});
attempt("beacon-like", {mode: "no-cors", keepalive: true, body: new Blob([order], {type: "text/plain"})});
attempt("with credentials", {mode: "no-cors", credentials: "include"});
tried.push(fetch("URL/v1/overrides/drain-1", {method: "DELETE", body: order}).then(() => "deleted", () => "delete failed"));
tried.push(fetch("URL/v1/health").then(answer => `read ${answer.status}`, () => "read failed"));
for (const enctype of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]) {
  const frame = document.createElement("iframe"), form = document.createElement("form");
  frame.name = enctype; form.target = enctype; form.action = to; form.method = "post"; form.enctype = enctype;
  const field = document.createElement("input");
  field.name = order.slice(0, -1) + ', "x": "'; field.value = '"}';
  form.append(field); document.body.append(frame, form);
  tried.push(new Promise(done => { frame.onload = () => done("form " + enctype); form.submit(); }));
}
Promise.all(tried).then(all => window.outcome = all);
</script>"""


@asynccontextmanager
async def elsewhere(page: str) -> AsyncIterator[str]:
    """Another origin on this machine, with one page."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=page, content_type="text/html")

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        (port,) = free_ports(1)
        await web.TCPSite(runner, HOST, port).start()
        yield f"http://{HOST}:{port}"
    finally:
        await runner.cleanup()


async def ordered(world: OnAir) -> list[str]:
    """Whoever has an entry in the audit."""
    return [entry["author"] for entry in (await world.get("/v1/audit"))["entries"]]


async def test_another_page_cannot_drain(opened: Opener) -> None:
    """With JSON, without CORS, as text, by forms of each kind, by DELETE: nothing is ordered, nothing can
    be read, and our page lets itself be framed by nobody."""
    async with on_air() as world, elsewhere(FOREIGN.replace("URL", world.url)) as url:
        before = await ordered(world)
        async with opened(url, complaints=False) as page:
            await page.wait_for_function("window.outcome")
            outcome = await page.evaluate("window.outcome")
            assert {"json failed", "delete failed", "read failed"} <= set(outcome)
            assert len(outcome) == 10
            await page.evaluate(
                "url => { const frame = document.createElement('iframe'); frame.id = 'framed';"
                " document.body.append(frame); return new Promise(done => { frame.onload = done; frame.src = url; }); }",
                world.url,
            )
            framed = page.frame_locator("#framed")
            await asyncio.sleep(0.5)
            assert await framed.get_by_role("button", name="Drain …").count() == 0
        assert (await world.get("/v1/overrides?all=true"))["overrides"] == []
        assert await ordered(world) == before
        # The same order from the page's own origin is taken: what was refused was the origin.
        async with opened(world.url) as page:
            status = await page.evaluate(
                "() => fetch('/v1/overrides', {method: 'POST', headers: {'content-type': 'application/json'}, body:"
                " JSON.stringify({kind: 'drain', region: 'eu-west', for_s: 600, author: 'ann', reason: 'ours'})})"
                ".then(answer => answer.status)"
            )
        assert status == 201
