"""How a streamed chat completion ended, as the client of an edge sees it.

whole    it says why it finished, and ends with `[DONE]`
failed   an error in-band: the client knows that something is missing
lost     anything else: it broke off in silence, or ended like a whole one and is not
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

import httpx2

MAX_TEXT = 65_536


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """`fault` is empty for a whole one."""

    fault: str
    lost: bool = False


@dataclass(slots=True)
class _Reading:
    text: str = ""
    finish: str | None = None
    done: bool = False
    error: str = ""
    garbled: str = ""

    def event(self, data: str) -> None:
        if data == "[DONE]":
            self.done = True
            return
        try:
            event = json.loads(data)
            if error := event.get("error"):
                self.error = str(error.get("message") if isinstance(error, dict) else error)
                return
            for choice in event.get("choices") or ():
                self.text = (self.text + (choice.get("delta", {}).get("content") or ""))[:MAX_TEXT]
                self.finish = choice.get("finish_reason") or self.finish
        except (ValueError, AttributeError, TypeError):
            self.garbled = self.garbled or data[:80]

    def end(self, broke: str, is_whole: Callable[[str], bool] | None) -> StreamEnd:
        if self.error:
            return StreamEnd(f"stream ended with an error in-band: {self.error[:200]}")
        if broke:
            return StreamEnd(f"stream broke off after {len(self.text)} characters: {broke}", lost=True)
        if self.garbled:
            return StreamEnd(f"stream with an event that is no JSON: {self.garbled}", lost=True)
        if not (self.done and self.finish):
            return StreamEnd("stream ended without saying that it was complete", lost=True)
        if not self.text or (is_whole is not None and not is_whole(self.text)):
            return StreamEnd("stream ended like a complete one, and is not", lost=True)
        return StreamEnd("")


async def read_stream(answer: httpx2.Response, is_whole: Callable[[str], bool] | None) -> StreamEnd:
    """Read it to its end. An answer that is no stream at all is failed, not lost."""
    if answer.status_code != 200:
        raw = await answer.aread()
        return StreamEnd(f"status {answer.status_code}: {raw[:200].decode(errors='replace')}")
    if not answer.headers.get("content-type", "").startswith("text/event-stream"):
        return StreamEnd("not a stream")
    reading, broke = _Reading(), ""
    try:
        async for line in answer.aiter_lines():
            if line.startswith("data:"):
                reading.event(line[5:].strip())
    except httpx2.HTTPError as error:
        broke = f"{type(error).__name__}: {error}"
    return reading.end(broke, is_whole)
