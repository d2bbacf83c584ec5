"""What telling people needs of the outside. A part of `control_plane.ports`."""

from collections.abc import Mapping
from typing import Protocol


class Undeliverable(Exception):
    """A receiver did not take it. The text has neither URL nor secret in it. `final`: it never will, however often
    it is asked."""

    def __init__(self, problem: str, *, final: bool = False) -> None:
        super().__init__(problem)
        self.final = final


class Outgoing(Protocol):
    """Sends to receivers outside the fleet."""

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float) -> None:
        """`POST` once, without following redirects. Raises Undeliverable for anything but a 2xx within
        `timeout_s`."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
