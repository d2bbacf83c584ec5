"""The express way of a stream's ordinary events: checked in half a microsecond, and passed on as they came.

The events of one stream are nearly all the same but for a piece of text. Once `EventReader` has read one whole and
found it ordinary (well-formed, and of no consequence for the stream's state), its bytes around that text are kept as
its form. What has the same bytes around another text is ordinary too: inside a JSON string the grammar forgets what
came before, so that one string in the place of another can neither make a valid event malformed nor, under a name
that no reader looks at, change what it means. So this is the same inspection, not less of it.

    text         What follows `"content":"`, `"text":"` or `"delta":"` in the event's last line, and `"obfuscation":"`
                 behind it: in valid JSON the last quotation mark of these begins a string, wherever they stand.
                 Taken are UTF-8 (RFC 3629) and escapes of single characters (RFC 8259, section 7).
    framing      Express is only what is one chunk, whole, its size written as the edge itself writes it (lower case,
                 no leading zero, no extension: RFC 9112, section 7.1). Then these bytes are, one by one, what decoding
                 and encoding anew would make: there is no other way to read them, and nothing for smuggling.
    otherwise    A finish reason, an error, usage, two events in a chunk or half of one: other bytes, so read whole.
"""

import re
from typing import Final


class Form:
    """What the ordinary events of one stream have in common: the bytes before, between and behind their texts."""

    __slots__ = ("_between", "_head", "_size", "_tail")

    def __init__(self, head: bytes, between: bytes, tail: bytes) -> None:
        """`between` is empty where there is but one text."""
        self._head = head
        self._between = between
        self._tail = tail
        self._size = len(head) + len(tail)

    def fits(self, data: bytes) -> bool:
        """Whether `data` is one event of this form, in one chunk as the edge itself would write it."""
        size = len(data)
        if size >= _LIMIT:
            return False
        line = _SIZE_LINES[size]
        tail = self._tail
        begin = len(line) + len(self._head)
        end = size - len(tail)
        if (
            begin > end
            or not data.startswith(line)
            or not data.startswith(self._head, len(line))
            or not data.endswith(tail)
        ):
            return False
        between = self._between
        if between:
            at = data.find(between, begin, end)
            if at < 0 or not _is_text(data[at + len(between) : end]):
                return False
            end = at
        return _is_text(data[begin:end])


def form_of(event: bytes) -> Form | None:
    """The form of an event that was found ordinary, with the blank line that ends it; None if it has none that another
    could be told by."""
    line = event.rfind(b"\n", 0, -2) + 1
    lone = event.find(b"\n\n") == len(event) - 2 and b"\r" not in event
    if not lone or not event.endswith(b"}\n\n") or not event.startswith(b"data: {", line):
        return None
    begin = max(at + len(name) if (at := event.find(name, line)) >= 0 else -1 for name in _TEXT_BEGINS)
    text = _TEXT.match(event, begin) if begin >= 0 else None
    if text is None or event[text.end() : text.end() + 1] != b'"':
        return None
    end = text.end()
    more = event.find(_PADDING_BEGINS, end)
    if more >= 0:
        more += len(_PADDING_BEGINS)
        padding = _TEXT.match(event, more)
        if padding is not None and event[padding.end() : padding.end() + 1] == b'"':
            return Form(event[:begin], event[end:more], event[padding.end() :] + b"\r\n")
    return Form(event[:begin], b"", event[end:] + b"\r\n")


def _is_text(text: bytes) -> bool:
    return not text.translate(None, _PLAIN) or _TEXT.fullmatch(text) is not None


_TEXT_BEGINS: Final = (b'"content":"', b'"text":"', b'"delta":"')
_PADDING_BEGINS: Final = b'"obfuscation":"'
_PLAIN: Final = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')
_TEXT: Final = re.compile(
    rb'(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\/bfnrt]|\\u(?:[0-9a-cefA-CEF][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2})'
    rb"|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]"
    rb"|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})*"
)


def _size_lines(limit: int) -> tuple[bytes, ...]:
    """By the length of a whole chunk, framing included: its size line as the edge writes it. Where no chunk has that
    length, a line that nothing begins with."""
    lines = [b"none"] * limit
    size = 1
    while (whole := len(b"%x\r\n" % size) + size + 2) < limit:
        lines[whole] = b"%x\r\n" % size
        size += 1
    return tuple(lines)


_LIMIT: Final = 4096
"""Bytes of a chunk, framing included: longer events are few, and reading them whole costs little more."""
_SIZE_LINES: Final = _size_lines(_LIMIT)
