"""`PUT` and `DELETE /faults/{id}`, which the keeper, the simulator's panel and the edge's filter all take."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx2

from ops.drill.ports import Place
from ops.errors import Bad, Unreachable
from ops.keeper.faults import undo_file
from ops.local.stack import Stack

TIMEOUT_S = 10.0
"""Killing waits until the processes are gone; starting them does not wait for them."""


class Order:
    """One fault, said as `body`, at `place.url`."""

    def __init__(self, client: httpx2.AsyncClient, place: Place, body: Mapping[str, Any]) -> None:
        self._client = client
        self._place = place
        self._body = body
        self._url = f"{place.url}/faults/{place.id}"

    async def put(self, *, for_s: float) -> None:
        """As `Injector.put`."""
        await self._ask("PUT", {**self._body, "for_s": for_s})

    async def renew(self, *, for_s: float) -> None:
        """As `Injector.renew`: the same order again."""
        await self._ask("PUT", {**self._body, "for_s": for_s})

    async def undo(self) -> None:
        """As `Injector.undo`; what is not there any more has ended."""
        await self._ask("DELETE", None, gone_is_good=True)

    async def _ask(self, method: str, body: Any, *, gone_is_good: bool = False) -> None:
        try:
            answer = await self._client.request(method, self._url, json=body, timeout=TIMEOUT_S)
        except httpx2.HTTPError as error:
            raise Unreachable(f"{self._url} did not answer: {error!r}") from None
        if answer.is_success or (gone_is_good and answer.status_code == 404):
            return
        if answer.status_code == 404:
            raise Bad(f"{self._place.where}: takes no faults (an edge needs `fault_filter: true`)")
        raise Bad(f"{self._place.where}: {_words(answer)}")


class Kept(Order):
    """An order to a local stack's keeper. When that is gone for good, what it left on file is undone here."""

    def __init__(
        self, client: httpx2.AsyncClient, place: Place, body: Mapping[str, Any], *, stack: Stack | None
    ) -> None:
        super().__init__(client, place, body)
        self._stack = stack

    async def undo(self) -> None:
        """As `Injector.undo`."""
        try:
            await super().undo()
        except Unreachable:
            if self._stack is None or (keeper := self._stack.keeper()) is None or keeper.alive:
                raise
            await asyncio.to_thread(undo_file, self._stack.state_dir, self._place.id)


def _words(answer: httpx2.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, LookupError, TypeError):
        return f"status {answer.status_code}: {answer.text[:200]}"
