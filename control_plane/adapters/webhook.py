"""Notices out over HTTP, by aiohttp."""

from collections.abc import Mapping

import aiohttp

from control_plane.ports_alerts import Undeliverable

RETRIABLE = frozenset({408, 409, 423, 425, 429})
"""Below 500, what may be different the next time (RFC 9110, section 15.5; RFC 6585)."""
MAX_CONNECTIONS = 16


class HttpOutgoing:
    """Implements `control_plane.ports_alerts.Outgoing`. Makes its session with the first message, inside the loop.
    Proxies named by the environment are used (`HTTPS_PROXY`, `NO_PROXY`): receivers are outside."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float) -> None:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS),
                trust_env=True,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        try:
            async with self._session.post(
                url,
                data=body,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
                allow_redirects=False,
            ) as answer:
                status = answer.status
        except TimeoutError:
            raise Undeliverable(f"no answer within {timeout_s:g} s") from None
        except aiohttp.InvalidURL:
            raise Undeliverable("what is named as its URL is none", final=True) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Their texts quote the URL, which may be a secret.
            raise Undeliverable(type(error).__name__) from None
        if not 200 <= status < 300:
            raise Undeliverable(f"status {status}", final=status < 500 and status not in RETRIABLE)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
