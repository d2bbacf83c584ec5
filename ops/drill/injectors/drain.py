"""A drain by an override. It ends by itself at its `expires_at`, which nobody can move: so it is given for a
minute at least, and one that would end too soon is lifted and given anew.

lost reply  An override of which no answer told is looked for by its author, its reason and what it drains.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from ops.client import ControlPlanes, Refused
from ops.drill.ports import Place

AT_LEAST_S = 60.0
LAG_S = 1.0
"""Within which a replica hears of what was written through another one."""


class Drain:
    """A region's targets, or one target, take no part."""

    def __init__(self, planes: ControlPlanes, place: Place, *, author: str, reason: str) -> None:
        self._planes = planes
        self._whom = {"region": place.region} if place.region is not None else {"target": place.targets[0]}
        self._word = {"author": author, "reason": reason}
        self._given: str | None = None
        self._unheard = False
        """Whether one may have been given whose id was not heard."""

    async def put(self, *, for_s: float) -> None:
        """As `Injector.put`."""
        body = {"kind": "drain", **self._whom, **self._word, "for_s": max(for_s, AT_LEAST_S)}
        unheard, self._unheard = self._unheard, True
        try:
            answer = await self._planes.change("POST", "/v1/overrides", body)
        except Refused as refused:
            # A 503 may hide a write that was made; a plain no says nothing of an earlier one.
            self._unheard = unheard or refused.status >= 500
            raise
        self._given, self._unheard = str(answer["id"]), False

    async def renew(self, *, for_s: float) -> None:
        """As `Injector.renew`; one that is not there any more is given anew."""
        if self._unheard:
            self._given = await self._found()
            self._unheard = self._given is None
        if self._given is not None:
            if await self._remaining_s(self._given) >= for_s:
                return
            await self._lift(self._given)
        await self.put(for_s=for_s)

    async def undo(self) -> None:
        """As `Injector.undo`; one that is over has ended."""
        if self._given is not None:
            await self._lift(self._given)
        if self._unheard:
            if (name := await self._found()) is None:
                await asyncio.sleep(LAG_S)
                name = await self._found()
            if name is not None:
                await self._lift(name)
            self._unheard = False

    async def _lift(self, name: str) -> None:
        try:
            await self._planes.change("DELETE", f"/v1/overrides/{name}", self._word)
        except Refused as refused:
            if refused.status not in (404, 409):
                raise
        self._given = None

    async def _remaining_s(self, name: str) -> float:
        """0 where the replica that answers knows of no such override."""
        try:
            return float((await self._planes.get(f"/v1/overrides/{name}"))["remaining_s"])
        except Refused as refused:
            if refused.status != 404:
                raise
            return 0.0

    async def _found(self) -> str | None:
        """The override in force that says what this one would: of equal ones there is only one at a time."""
        spec = {"kind": "drain", "region": None, "target": None, "route": None, **self._whom}
        word = {name: words.strip() for name, words in self._word.items()}
        for each in (await self._planes.get("/v1/overrides"))["overrides"]:
            if _says(each, word) and _says(each["spec"], spec):
                return str(each["id"])
        return None


def _says(known: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(known.get(name) == value for name, value in wanted.items())
