"""What a replica found wrong in a request, by the names that the operator typed."""

import re

from ops.client import Refused
from ops.errors import OpsError

NAMES = {
    "body.spec.steps": "--steps",
    "body.spec.limits.min_attempts": "--min-attempts",
    "body.spec.limits.error_permille_over": "--error-over",
    "body.spec.limits.garbled_permille_over": "--garbled-over",
    "body.spec.limits.latency_ratio": "--latency-ratio",
    "body.spec.targets": "TARGET",
    "body.spec.route": "ROUTE",
    "body.reason": "--reason",
    "body.author": "--author",
    "query.reason": "--reason",
    "query.author": "--author",
    "query.since": "--since",
    "body.for_s": "--for",
    "body.route": "the route",
    "body.clients": "--clients",
    "body.weights": "TARGET=PART",
    "path.name": "ID",
}
"""A field of the API -> what says it on the command line; the first that a field begins with counts."""

_FAULT = re.compile(r"^(?P<where>[a-z_][a-z0-9_.\[\]-]*): (?P<what>.+)$")


def in_options(error: OpsError) -> str:
    """The message of `error`; each fault that a replica named by a field is named by its option."""
    if not isinstance(error, Refused) or error.status != 422 or not error.faults:
        return str(error)
    return "\n".join(_named(fault) for fault in error.faults)


def _named(fault: str) -> str:
    found = _FAULT.match(fault)
    if found is None:
        return fault
    what = found["what"].removeprefix("Value error, ")
    if found["where"] == "body":  # of the request as a whole
        return what
    for field, name in NAMES.items():
        if found["where"] == field or found["where"].startswith(f"{field}."):
            return f"{name}: {what}"
    return fault
