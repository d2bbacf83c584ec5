"""An outage of a provider, and of a second one, under three SDKs' traffic: who is left answers in another dialect."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from edge_stand import Stand, edge_stand

from ops.simulator.answers import expected_answer
from tests.support.sdks import SDKS, Failed, Sdk, sdk

pytestmark = pytest.mark.slow  # tests/integration/test_edge_dialects.py shows it on the data path alone

DIALECTS = {"alpha": "openai", "beta": "anthropic", "gamma": "gemini"}
ROUNDS = 12


async def asks(user: Sdk, seen: Counter[str], *, stream: bool) -> None:
    for number in range(ROUNDS):
        prompt = f"question {number} in 20 words"
        try:
            said = await user.say("chat", prompt, stream=stream)
        except Failed as failed:
            seen["told in-band" if stream and failed.pieces else f"failed: {failed}"] += 1
        else:
            whole = said.text == expected_answer(prompt) and said.end == "end"
            seen[said.model if whole else "cut, and clean"] += 1


async def everybody(stand: Stand, seen: Counter[str]) -> None:
    async def one(name: str, *, stream: bool) -> None:
        async with sdk(name, stand.url) as user:
            await asks(user, seen, stream=stream)

    await asyncio.gather(*(one(name, stream=stream) for name in SDKS for stream in (False, True)))


async def test_providers_go_one_after_the_other_and_no_request_fails(tmp_path: Path) -> None:
    """Each is killed under traffic. What it was in the middle of streaming is told in-band; everything else is
    answered whole by the next one, whichever dialects meet."""
    async with edge_stand(tmp_path, *DIALECTS, dialects=DIALECTS) as stand:
        for name in DIALECTS:
            await stand.faults(name, ttft_ms=5, tokens_per_s=400)
        calm: Counter[str] = Counter()
        await everybody(stand, calm)
        tally: list[Counter[str]] = []
        for name in ("alpha", "beta"):
            seen: Counter[str] = Counter()
            traffic = asyncio.create_task(everybody(stand, seen))
            await asyncio.sleep(0.5)
            stand.targets[name].stop()
            await traffic
            tally.append(seen)
        print(f"\ncalm {dict(calm)}\none gone {dict(tally[0])}\ntwo gone {dict(tally[1])}")
    assert sum(calm.values()) == 6 * ROUNDS
    for seen, left in zip(tally, ("beta-1", "gamma-1"), strict=True):
        assert sum(seen.values()) == 6 * ROUNDS
        assert seen[left] > 0
        assert not [what for what in seen if what.startswith(("failed", "cut"))]
        assert seen["told in-band"] <= 3, "more than were streaming at that moment"
