"""What a request's Cache-Control says (RFC 9111, section 5.2.1), and whether an answer of some age may be given.

    no-store        nothing of this request or its answer is kept; what was kept before may still be given
    no-cache        nothing stored is given: nobody could be asked whether it is still right
    only-if-cached  a stored answer or 504, no target is asked
    max-age=N       not older than N s; and not stale either, unless max-stale says so
    max-stale[=N]   stale is fine, by up to N s
    min-fresh=N     fresh for another N s at least

Directives that are unknown or malformed count for nothing (section 5.2.3), but a malformed number makes the
directive its strictest (section 4.2.1: a cache is encouraged to take it for stale). The operator's `stale_s` is the
outermost limit: no request can go beyond it.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple


class Directives(NamedTuple):
    """Seconds. `max_stale` is infinite without a number."""

    no_store: bool = False
    no_cache: bool = False
    only_if_cached: bool = False
    max_age: float | None = None
    max_stale: float | None = None
    min_fresh: float | None = None


NONE: Final = Directives()
_DIRECTIVE: Final = re.compile(rb'([!#$%&\'*+.^_`|~0-9a-z-]+)(?:=(?:"([^"]*)"|([^\s,;"]*)))?\s*(?:,|$)')
_MOST: Final = 2**31
"""RFC 9111, section 1.2.2: a larger number of seconds is taken for this one."""


def read(value: bytes) -> Directives:
    """The directives of a Cache-Control field, the lines joined by commas."""
    if not value:
        return NONE
    said: dict[bytes, bytes | None] = {}
    for found in _DIRECTIVE.finditer(value.lower()):
        argument = found[2] if found[2] is not None else found[3]
        said.setdefault(found[1], argument)
    return Directives(
        no_store=b"no-store" in said,
        no_cache=b"no-cache" in said,
        only_if_cached=b"only-if-cached" in said,
        max_age=_seconds(said, b"max-age", malformed=0.0),
        max_stale=_seconds(said, b"max-stale", malformed=0.0, bare=float("inf")),
        min_fresh=_seconds(said, b"min-fresh", malformed=float("inf")),
    )


def _seconds(
    said: Mapping[bytes, bytes | None], name: bytes, *, malformed: float, bare: float | None = None
) -> float | None:
    if name not in said:
        return None
    argument = said[name]
    if argument is None and bare is not None:
        return bare
    if argument is None or not argument.isdigit():
        return malformed
    return float(min(int(argument[:12]), _MOST))


def allows(asked: Directives, *, age_s: float, ttl_s: float, stale_s: float, failing: bool) -> bool:
    """Whether an answer that is `age_s` old may be given. `failing`: no target answers, so a stale one may be given
    unasked (section 4.2.4), to the operator's limit."""
    if asked.no_cache or age_s > ttl_s + stale_s:
        return False
    lifetime_s = ttl_s if asked.max_age is None else min(ttl_s, asked.max_age)
    stale_by_s = age_s - lifetime_s
    if asked.min_fresh is not None and -stale_by_s < asked.min_fresh:
        return False
    if stale_by_s <= 0:
        return True
    if asked.max_stale is not None:
        return stale_by_s <= asked.max_stale
    return failing and asked.max_age is None
