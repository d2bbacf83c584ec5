"""A drain by an override. It ends by itself at its `expires_at`, which nobody can move: so it is given for a
minute at least, and one that would end too soon is lifted and given anew."""

from ops.client import ControlPlanes, Refused
from ops.drill.ports import Place

AT_LEAST_S = 60.0


class Drain:
    """A region's targets, or one target, take no part."""

    def __init__(self, planes: ControlPlanes, place: Place, *, author: str, reason: str) -> None:
        self._planes = planes
        self._whom = {"region": place.region} if place.region is not None else {"target": place.targets[0]}
        self._word = {"author": author, "reason": reason}
        self._given: str | None = None

    async def put(self, *, for_s: float) -> None:
        """As `Injector.put`."""
        body = {"kind": "drain", **self._whom, **self._word, "for_s": max(for_s, AT_LEAST_S)}
        answer = await self._planes.change("POST", "/v1/overrides", body)
        self._given = str(answer["id"])

    async def renew(self, *, for_s: float) -> None:
        """As `Injector.renew`."""
        if self._given is None:
            return
        answer = await self._planes.get(f"/v1/overrides/{self._given}")
        if answer["remaining_s"] < for_s:
            await self.undo()
            await self.put(for_s=for_s)

    async def undo(self) -> None:
        """As `Injector.undo`; one that is over has ended."""
        if self._given is None:
            return
        try:
            await self._planes.change("DELETE", f"/v1/overrides/{self._given}", self._word)
        except Refused as refused:
            if refused.status not in (404, 409):
                raise
        self._given = None
