"""The secrets that probes carry: resolved where they are used, and put only on requests to the origins they are bound to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from shared.clock import Clock
from shared.secrets import SecretError, resolve
from shared.vocabulary.node import Credential

KEPT_S: Final = 30.0
"""How long a resolved secret is used before it is read again: a rotated file needs no restart, and a
missing one is not looked for at every probe."""

Origin = tuple[str, str, int]


def origin_of(url: str) -> Origin:
    """Scheme, host and port of an http or https URL, the port made explicit (RFC 6454, section 4)."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    return scheme, (parts.hostname or "").lower(), parts.port or (443 if scheme == "https" else 80)


class Withheld(Exception):
    """A credential is not sent: it is not configured here, cannot be had, or is not for that origin.
    The text names the credential or its reference, never its value."""


@dataclass(slots=True)
class _Kept:
    until: float
    value: str | None
    problem: str = ""


class Credentials:
    """The node's `credentials`."""

    def __init__(self, credentials: Mapping[str, Credential], *, clock: Clock) -> None:
        self._credentials = credentials
        self._origins = {
            name: frozenset(map(origin_of, credential.origins)) for name, credential in credentials.items()
        }
        self._clock = clock
        self._kept: dict[str, _Kept] = {}

    def headers_for(self, name: str | None, url: str) -> Mapping[str, str]:
        """The header that carries credential `name` to `url`; none without a name. Raises Withheld."""
        if name is None:
            return {}
        credential = self._credentials.get(name)
        if credential is None:
            raise Withheld(f"credential {name!r} is not configured on this node")
        if origin_of(url) not in self._origins[name]:
            raise Withheld(f"credential {name!r} is not bound to the origin of {url}")
        secret = self._secret(name, credential.secret)
        return {
            credential.header: f"Bearer {secret}" if credential.header == "authorization" else secret,
        }

    def _secret(self, name: str, ref: str) -> str:
        now = self._clock.monotonic()
        kept = self._kept.get(name)
        if kept is None or now >= kept.until:
            try:
                kept = _Kept(now + KEPT_S, resolve(ref))
            except SecretError as error:
                kept = _Kept(now + KEPT_S, None, str(error))
            self._kept[name] = kept
        if kept.value is None:
            raise Withheld(kept.problem)
        return kept.value
