"""The pictures of docs/DASHBOARD.md, taken anew: `python -m tests.browser.screenshots docs/screenshots`.

Each state of the fleet is brought about in a control plane in this process (`tests/support/on_air.py`).
"""

import asyncio
import logging
import os
import struct
import sys
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import structlog
from playwright.async_api import Browser, Page, async_playwright

from tests.browser.conftest import CHROMIUM
from tests.browser.test_page_orders import fill_drain
from tests.browser.test_page_states import TEN
from tests.support.on_air import OnAir, fleet_of, on_air

Act = Callable[[Page], Awaitable[None]]
WIDE, NARROW = (1280, 900), (390, 844)
TAKEN: list[Path] = []
"""Made smaller at the end: meanwhile nobody in this process would be answered."""


async def settle(page: Page) -> None:
    """Whatever is on its way arrives."""
    await page.wait_for_timeout(2_500)


async def shot(
    browser: Browser,
    world: OnAir,
    path: Path,
    head: str,
    *,
    size: tuple[int, int] = WIDE,
    dark: bool = False,
    act: Act = settle,
) -> None:
    """One picture of the whole page, once its head line contains `head`."""
    context = await browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
    )
    page = await context.new_page()
    await page.goto(world.url)
    await page.get_by_role("heading", level=1, name=head).wait_for()
    await act(page)
    raw = await page.screenshot(full_page=await page.get_by_role("dialog").count() == 0)
    path.write_bytes(raw)
    TAKEN.append(path)
    await context.close()


def small(png: bytes) -> bytes:
    """The same picture with a palette of 256 colours (PNG, third edition: color type 3): a quarter of the
    size. Takes what chromium writes: 8 bits, RGB or RGBA, not interlaced."""
    width, height, _, kind = struct.unpack(">IIBB", png[16:26])
    depth, at, packed = {2: 3, 6: 4}[kind], 8, b""
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            packed += png[at + 8 : at + 8 + length]
        at += 12 + length
    pixels = list(_lines(zlib.decompress(packed), width * depth, height, depth))
    counts = Counter(line[x : x + 3] for line in pixels for x in range(0, width * depth, depth))
    palette = [colour for colour, _ in counts.most_common(256)]
    number = {colour: n for n, colour in enumerate(palette)}
    for colour in counts.keys() - number.keys():
        number[colour] = min(
            range(len(palette)),
            key=lambda n: sum((a - b) ** 2 for a, b in zip(colour, palette[n], strict=True)),
        )
    rows = b"".join(
        b"\0" + bytes(number[line[x : x + 3]] for x in range(0, width * depth, depth)) for line in pixels
    )
    return b"".join(
        (
            png[:8],
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", b"".join(palette)),
            _chunk(b"IDAT", zlib.compress(rows, 9)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _lines(raw: bytes, stride: int, height: int, depth: int) -> Iterator[bytes]:
    """Each line of pixels, its filter undone (PNG, section 9)."""
    before = bytearray(stride)
    for y in range(height):
        start = y * (stride + 1)
        line = bytearray(raw[start + 1 : start + 1 + stride])
        for x in range(stride):
            left = line[x - depth] if x >= depth else 0
            up, corner = before[x], before[x - depth] if x >= depth else 0
            match raw[start]:
                case 1:
                    guess = left
                case 2:
                    guess = up
                case 3:
                    guess = (left + up) // 2
                case 4:
                    by = {left: abs(up - corner), up: abs(left - corner), corner: abs(left + up - 2 * corner)}
                    guess = min((left, up, corner), key=lambda each: by[each])
                case _:
                    break
            line[x] = (line[x] + guess) & 0xFF
        yield bytes(line)
        before = line


async def take(browser: Browser, to: Path) -> None:
    """All of them."""
    async with on_air(replicas=("cp-us-east", "cp-eu-west")) as world:
        await shot(browser, world, to / "healthy.png", "All clear")
        await shot(browser, world, to / "healthy-dark.png", "All clear", dark=True)

        async def plan(page: Page) -> None:
            await fill_drain(page, "eu-west")
            await page.get_by_role("button", name="Show the plan").click()
            await settle(page)

        await shot(browser, world, to / "drain-plan.png", "All clear", act=plan)
        world.down |= {"alpha-eu-west", "beta-eu-west"}
        await shot(browser, world, to / "region-down.png", "eu-west is down: its traffic goes to")
        await shot(browser, world, to / "region-down-390.png", "eu-west is down", size=NARROW)

        async def why(page: Page) -> None:
            await page.locator(".timeline li", has_text="left the traffic").last.get_by_role("button").click()
            await settle(page)

        await shot(browser, world, to / "why.png", "eu-west is down", act=why)
    async with on_air() as world:
        await world.give(kind="freeze", reason="the probers' network is being worked on")
        await shot(browser, world, to / "frozen.png", "Frozen by ann")
    async with on_air() as world:
        world.links["cp-us-east"].link.cut = True
        await shot(browser, world, to / "no-etcd.png", "This replica has lost etcd")
        world.links["cp-us-east"].link.cut = False
    async with on_air(fleet_of(TEN, per_region=20)) as world:
        world.down |= {"alpha-eu-west-3", "beta-eu-west-1"}
        await shot(browser, world, to / "200-targets.png", "are down")
        await shot(browser, world, to / "200-targets-390-dark.png", "are down", size=NARROW, dark=True)


async def main(to: Path) -> None:
    """Into the directory `to`."""
    to.mkdir(parents=True, exist_ok=True)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    async with async_playwright() as playwright:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        await take(browser, to)
        await browser.close()
    for path in TAKEN:
        path.write_bytes(small(path.read_bytes()))
        print(path, path.stat().st_size)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
