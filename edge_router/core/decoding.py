"""What reading bytes from outside as JSON may raise, and whether they are text at all.

msgspec skips what nobody asked for without looking into its strings, so bytes that are not UTF-8 (RFC 8259, section
8.1) are found only where they are read: under a name that one reader takes and the next one does not. And how deep a
text may be nested depends on how deep the stack is at that place, so that what one reader could read another may not.
Therefore every reader expects all of `UNREADABLE`, whatever was read before it.
"""

from typing import Final

import msgspec

UNREADABLE: Final = (msgspec.DecodeError, UnicodeError, RecursionError)
"""Raised by msgspec for what is not JSON or of another type, not UTF-8, or nested too deeply."""


def is_utf8(text: bytes) -> bool:
    """Whether `text` is UTF-8 (RFC 3629). For ASCII 20 ns a kilobyte, else some 0.5 ms a MiB."""
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
