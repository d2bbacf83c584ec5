"""Secrets by reference: configuration says where a secret is, and it is read only where it is used.

Nothing here logs, caches or repeats a value: an error names the reference and what is wrong with
it, never what stands behind it.
"""

import os
from pathlib import Path

MAX_SECRET_BYTES = 65_536
"""No header or password is longer; a reference to a log file or a device is a mistake."""


class SecretError(Exception):
    """A secret cannot be had. The text names its reference, never its value."""

    def __init__(self, ref: str, problem: str) -> None:
        super().__init__(f"secret {ref}: {problem}")
        self.ref = ref
        self.problem = problem


def resolve(ref: str) -> str:
    """The secret behind `env:NAME` or `file:PATH`.

    One line end at the end of a file is not part of its secret, since editors and `echo` add it.

    Raises SecretError when it is absent, unreadable, empty, not UTF-8, or has a line break or NUL
    inside, which no header can carry.
    """
    scheme, _, where = ref.partition(":")
    if scheme == "env" and where:
        value = _from_environment(ref, where)
    elif scheme == "file" and where:
        value = _from_file(ref, Path(where))
    else:
        # What stands here may be a secret pasted in place of its reference, so it is not repeated.
        raise SecretError("(reference)", "is neither env:NAME nor file:PATH")
    if not value:
        raise SecretError(ref, "is empty")
    if any(character in value for character in "\r\n\0"):
        raise SecretError(ref, "has a line break or NUL inside")
    return value


def _from_environment(ref: str, name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise SecretError(ref, "is not set in this process's environment")
    return value


def _from_file(ref: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise SecretError(ref, f"cannot be read ({error.strerror})") from None
    if len(raw) > MAX_SECRET_BYTES:
        raise SecretError(ref, f"is larger than {MAX_SECRET_BYTES} bytes")
    try:
        value = raw.decode()
    except UnicodeDecodeError:
        # `from None`: the exception carries the bytes it failed on.
        raise SecretError(ref, "is not UTF-8 text") from None
    return value.removesuffix("\n").removesuffix("\r")
