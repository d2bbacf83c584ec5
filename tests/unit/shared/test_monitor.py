"""The monitors' own rules; their place in a fleet is in test_vocabulary.py."""

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.vocabulary.monitor import MAX_HEADERS, Monitor, monitor_problems

TOKEN = string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~"


def monitor(kind: str = "http", **fields: Any) -> Monitor:
    return Monitor.model_validate({"id": "m", "kind": kind, **fields})


@pytest.mark.parametrize(
    ("headers", "fault"),
    [
        ({"X-Team": "a\r\nauthorization: x"}, "value of 'X-Team' must be at most"),
        ({"X-Team": "a\nb"}, "on one line"),
        ({"X-Team": "a\0b"}, "visible ASCII"),
        ({"X-Team": "é"}, "visible ASCII"),
        ({"X-Team": " a"}, "visible ASCII"),
        ({"X-Team": "x" * 5000}, "at most 4096"),
        ({"X Team": "a"}, "is not a header name"),
        ({"X-Team\r\n": "a"}, "is not a header name"),
        ({"": "a"}, "is not a header name"),
        ({"Connection": "close"}, "set by the prober"),
        ({"Transfer-Encoding": "chunked"}, "set by the prober"),
        ({"TE": "trailers"}, "set by the prober"),
        ({"Content-Length": "3"}, "set by the prober"),
        ({"Host": "elsewhere"}, "set by the prober"),
        ({"Accept-Encoding": "gzip"}, "set by the prober"),
        ({"Authorization": "Bearer x"}, "`credential`"),
        ({"x-api-key": "x"}, "`credential`"),
        ({"Cookie": "a=b"}, "`credential`"),
        ({"x-a": "1", "X-A": "2"}, "is given twice"),
        ({f"x-{n}": "1" for n in range(MAX_HEADERS + 1)}, "at most 32"),
    ],
)
def test_headers_that_a_probe_may_not_carry(headers: dict[str, str], fault: str) -> None:
    """Nothing that ends a line, frames a message, belongs to one hop or is a secret; the error says what to do
    and does not repeat what may be one."""
    with pytest.raises(ValidationError) as raised:
        monitor(headers=headers)
    (error,) = raised.value.errors()
    assert fault in error["msg"]
    assert "Bearer" not in error["msg"]


@given(
    name=st.text(TOKEN, min_size=1, max_size=64).map(lambda name: f"x{name}"[:64]),
    value=st.text(min_size=0, max_size=50),
)
def test_no_accepted_header_can_begin_another(name: str, value: str) -> None:
    """Whatever is taken is one line of ASCII without space around it, under a name in lower case."""
    try:
        taken = monitor(headers={name: value}).headers
    except ValidationError:
        return
    assert taken == {name.lower(): value}
    assert value.isascii()
    assert value.isprintable() or "\t" in value
    assert value == value.strip()


@pytest.mark.parametrize(
    ("expected", "status", "welcome"),
    [
        ((200,), 200, True),
        ((200,), 201, False),
        (("2xx",), 204, True),
        (("2xx", 401), 401, True),
        (("2xx", 401), 403, False),
        (("3xx",), 302, True),
        (("5xx",), 529, True),
    ],
)
def test_statuses_are_expected_as_codes_and_as_classes(
    expected: tuple[Any, ...], status: int, welcome: bool
) -> None:
    """`2xx` is every 2xx."""
    assert monitor(expect_status=expected).expects(status) is welcome


@pytest.mark.parametrize("status", ["6xx", "1xx", "2XX", "200", 99, 600, True, 2.5, None])
def test_what_is_no_status_is_refused(status: Any) -> None:
    """One sentence says what is."""
    with pytest.raises(ValidationError, match="a status such as 200, or a class such as 2xx"):
        monitor(expect_status=(status,))
    with pytest.raises(ValidationError):
        monitor(expect_status=())


@pytest.mark.parametrize(
    ("kind", "fields", "problems"),
    [
        ("http", {"min_interval_s": 0.2, "max_interval_s": 30}, []),
        ("http", {"min_interval_s": 2}, [("min_interval_s", "must not be longer than interval_s 1 s")]),
        ("http", {"max_interval_s": 0.5}, [("max_interval_s", "must not be shorter than interval_s 1 s")]),
        ("http", {"method": "POST", "body": "{}"}, []),
        ("http", {"body": "{}"}, [("body", "is not sent by GET; use method: POST")]),
        (
            "http",
            {"method": "HEAD", "expect_body": "x"},
            [("expect_body", "an answer to HEAD has no body; use method: GET")],
        ),
        ("chat", {"expect_answer": "!?"}, [("expect_answer", "has neither letters nor digits, and nothing else is compared")]),
        ("chat", {"path": "/x"}, [("path", "means nothing to a monitor of kind chat; leave it out")]),
        ("http", {"expect_answer": "x"}, [("expect_answer", "means nothing to a monitor of kind http; leave it out")]),
        ("tcp", {"headers": {"a": "b"}}, [("headers", "means nothing to a monitor of kind tcp; leave it out")]),
        ("embedding", {"expect_dimensions": 3}, []),
        ("chat", {"expect_dimensions": 3}, [("expect_dimensions", "means nothing to a monitor of kind chat; leave it out")]),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_named(
    kind: str, fields: dict[str, Any], problems: list[tuple[str, str]]
) -> None:
    """A setting without effect is a mistake that somebody believes in."""
    assert list(monitor_problems(monitor(kind, **fields))) == problems


@pytest.mark.parametrize("kind", ["http", "tcp", "chat", "embedding"])
def test_a_monitor_shown_in_full_can_be_applied_again(kind: str) -> None:
    """Defaults that are written out are no settings without effect."""
    shown = monitor(kind).model_dump(mode="json")
    assert list(monitor_problems(Monitor.model_validate(shown))) == []
    assert Monitor.model_validate(shown) == monitor(kind)
