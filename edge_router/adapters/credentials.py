"""The secrets of this node's providers, resolved once at start and bound to the origins they may be sent to."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from edge_router.core.table import ResolvedCredential
from shared.secrets import SecretError, resolve
from shared.vocabulary.node import Credential


def resolve_all(
    credentials: Mapping[str, Credential],
) -> tuple[dict[str, ResolvedCredential], dict[str, str]]:
    """Those that could be had, by name, and for the others what is wrong; never a value in a text.

    One provider's missing secret is no reason for an edge not to serve the others.
    """
    resolved: dict[str, ResolvedCredential] = {}
    missing: dict[str, str] = {}
    for name, credential in credentials.items():
        try:
            secret = resolve(credential.secret)
            bearer = credential.header == "authorization"
            value = (f"Bearer {secret}" if bearer else secret).encode("ascii")
        except SecretError as error:
            missing[name] = str(error)
        except UnicodeEncodeError:
            missing[name] = f"secret {credential.secret}: has characters that no header can carry"
        else:
            origins = frozenset(map(origin_of, credential.origins))
            resolved[name] = ResolvedCredential(credential.header.encode(), value, origins)
    return resolved, missing


def origin_of(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of an http or https URL, the port made explicit (RFC 6454, section 4)."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
