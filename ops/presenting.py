"""What a command presents to a control plane, and whom it trusts there: a token from `--token-file` or
`LEEWARD_TOKEN`, a certificate authority from `--ca-file` or `LEEWARD_CA_FILE`.

The token goes to the control planes that the command was pointed at, and nowhere else: neither to edges
nor to where an answer points. It is never printed.
"""

import hashlib
import os
import secrets
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from ops.errors import Usage
from shared.secrets import SecretError, resolve
from shared.tls import client_context
from shared.vocabulary.node import Tls

FROM_ENV = "LEEWARD_TOKEN"
CA_FILE = "LEEWARD_CA_FILE"
PREFIX = "lw_"
"""By which a token is told from other strings where somebody left it behind."""

_token_file: ContextVar[Path | None] = ContextVar("token_file", default=None)
_ca_file: ContextVar[Path | None] = ContextVar("ca_file", default=None)


@contextmanager
def given(*, token_file: Path | None, ca_file: Path | None) -> Iterator[None]:
    """What the command line names holds inside."""
    token, ca = _token_file.set(token_file), _ca_file.set(ca_file)
    try:
        yield
    finally:
        _token_file.reset(token)
        _ca_file.reset(ca)


def headers() -> dict[str, str]:
    """For a request to a control plane; none without a token. Raises Usage for a file that holds none."""
    file = _token_file.get()
    if file is None and FROM_ENV not in os.environ:
        return {}
    try:
        token = resolve(f"file:{file}" if file is not None else f"env:{FROM_ENV}")
    except SecretError as error:
        raise Usage(f"{'--token-file' if file is not None else FROM_ENV}: {error.problem}") from None
    if not token.isascii() or any(character.isspace() for character in token):
        raise Usage(
            f"{'--token-file' if file is not None else FROM_ENV}: is no token: it has other characters"
        )
    return {"authorization": f"Bearer {token}"}


def trust() -> ssl.SSLContext | bool:
    """Whom a control plane's certificate must be from; True for the system's roots. Raises Usage."""
    file = _ca_file.get() or os.environ.get(CA_FILE)
    if not file:
        return True
    try:
        return client_context(Tls(ca_file=str(file)))
    except OSError as error:
        raise Usage(f"{file}: holds no certificates: {error.strerror or error}") from None


def mint() -> tuple[str, str]:
    """A token that nobody can guess, and its SHA-256 in hex, which is all that is kept."""
    token = PREFIX + secrets.token_urlsafe(32)
    return token, hashlib.sha256(token.encode()).hexdigest()
