"""The load a drill runs under: what counts as failed."""

import httpx2
import pytest
from drill_worlds import ManualClock, terrain

from ops.drill.load import Load, fault_of
from shared.vocabulary.drill import DrillLoad

WHOLE = {"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (httpx2.Response(200, json=WHOLE), ""),
        (httpx2.Response(503, text="no"), "status 503: no"),
        (httpx2.Response(200, json={"choices": []}), "not a chat completion"),
        (httpx2.Response(200, text="<html>"), "not a chat completion"),
        (
            httpx2.Response(200, json={"choices": [{"message": {"content": ""}, "finish_reason": "stop"}]}),
            "an incomplete completion",
        ),
        (
            httpx2.Response(200, json={"choices": [{"message": {"content": "x"}, "finish_reason": None}]}),
            "an incomplete completion",
        ),
    ],
)
def test_only_a_whole_completion_is_good(answer: httpx2.Response, fault: str) -> None:
    """A truncated or garbled answer is a failure, whatever its status."""
    assert fault_of(answer) == fault


def test_a_text_that_can_be_checked_is() -> None:
    """Where the model's answers are known, a changed one is no answer."""
    answer = httpx2.Response(200, json=WHOLE)
    assert fault_of(answer, lambda text: text == "hello") == ""
    assert fault_of(answer, lambda _: False) == "a completion that is not as it was made"


def test_streams_are_spread_evenly() -> None:
    """Three in ten, and never two shares at once."""
    load = Load(DrillLoad(stream_permille=300), terrain().edges, clock=ManualClock(), key="dev", regions={})
    drawn = [load._streams_next() for _ in range(10)]
    assert sum(drawn) == 3
    assert drawn != sorted(drawn)


def test_a_load_needs_an_edge() -> None:
    """Without one there is nothing to measure."""
    with pytest.raises(ValueError, match="needs an edge"):
        Load(DrillLoad(), [], clock=ManualClock(), key="dev", regions={})
