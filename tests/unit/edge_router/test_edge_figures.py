"""What the edge counts: whose request, what its client got, how many tokens; bounded however many ask."""

from prometheus_client import Metric
from structlog.testing import capture_logs

from edge_router.adapters.failovers import BURST, SAY_S, FailoverLog
from edge_router.adapters.figures import BROKEN, DEGRADED, Figures
from edge_router.core.endpoints import Kind
from edge_router.core.promise import keeps
from edge_router.core.tenants import NAMED, OTHER, TURN_S, WAITING, Busiest
from edge_router.core.tokens import NONE, TAIL_BYTES, Tokens, tokens_of


def family(figures: Figures, name: str) -> Metric:
    return next(metric for metric in figures.metrics() if metric.name == name)


def tasks(figures: Figures) -> dict[tuple[str, str], dict[str, float]]:
    """By route and tenant, what is not zero."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for sample in family(figures, "leeward_edge_tasks").samples:
        if sample.value:
            key = (sample.labels["route"], sample.labels["tenant"])
            found.setdefault(key, {})[sample.labels["result"]] = sample.value
    return found


def test_a_task_is_counted_by_what_its_client_got():
    figures = Figures()
    for status, instead in (
        (200, 0),
        (204, 0),
        (429, 0),
        (404, 0),
        (499, 0),
        (503, 0),
        (200, BROKEN),
        (200, DEGRADED),
    ):
        figures.answered("chat", status, 0.1, tenant="acme", instead=instead)
    assert tasks(figures) == {
        ("chat", "acme"): {"served": 2, "refused": 2, "abandoned": 1, "failed": 2, "degraded": 1}
    }


def test_broken_off_and_degraded_answers_count_as_failed_where_the_control_plane_looks():
    figures = Figures()
    for instead in (0, 0, BROKEN, DEGRADED):
        figures.answered("chat", 200, 0.1, tenant="acme", instead=instead)
    figures.answered("chat", 502, 0.1, tenant="acme")
    assert (figures.ended()["chat"].requests, figures.ended()["chat"].failed) == (5, 3)


def test_the_busiest_tenants_are_named_and_everybody_is_counted():
    figures = Figures()
    for number in range(NAMED + 30):
        figures.answered("chat", 200, 0.1, tenant=f"t{number}")
    counted = tasks(figures)
    assert len(counted) == NAMED + 1
    assert counted["chat", OTHER] == {"served": 30}
    assert sum(results["served"] for results in counted.values()) == NAMED + 30


def test_a_tenant_that_has_become_busy_takes_the_place_of_the_quietest_from_zero_on():
    figures = Figures()
    for number in range(NAMED):
        for _ in range(number + 1):
            figures.answered("chat", 200, 0.1, tenant=f"t{number}")
    for _ in range(50):
        figures.answered("chat", 200, 0.1, tenant="busy")
    figures.turn(TURN_S - 1)
    assert ("chat", "busy") not in tasks(figures)
    figures.turn(TURN_S)
    figures.answered("chat", 200, 0.1, tenant="busy")
    figures.answered("chat", 200, 0.1, tenant="t0")
    counted = tasks(figures)
    assert counted["chat", "busy"] == {"served": 1}
    assert ("chat", "t0") not in counted
    assert counted["chat", OTHER] == {"served": 51}, "what it had counted is not taken back"


def test_what_has_ended_does_not_fall_when_tenants_change_places():
    """The control plane reads differences of it."""
    figures = Figures()
    for number in range(NAMED):
        figures.answered("chat", 200, 0.1, tenant=f"t{number}", instead=DEGRADED)
    for _ in range(50):
        figures.answered("chat", 200, 0.1, tenant="busy")
    before = figures.ended()["chat"]
    figures.turn(TURN_S)
    assert len(tasks(figures)) < NAMED + 1, "one has given its place"
    assert figures.ended()["chat"] == before == (NAMED + 50, NAMED)


def test_two_of_about_the_same_size_do_not_change_places():
    busiest = Busiest()
    for number in range(NAMED):
        assert busiest.takes(f"t{number}")
    for _ in range(20):
        busiest.takes("newcomer")
    assert busiest.turn({f"t{number}": 10 for number in range(NAMED)}) == frozenset()
    for _ in range(21):
        busiest.takes("newcomer")
    assert busiest.turn({f"t{number}": 20 for number in range(NAMED)}) == {"t0"}


def test_who_waits_for_a_name_is_bounded():
    busiest = Busiest()
    for number in range(NAMED + WAITING + 1000):
        busiest.takes(f"t{number}")
    assert len(busiest._waiting) == WAITING


def test_a_tenant_called_other_is_one_of_them():
    figures = Figures()
    figures.answered("chat", 200, 0.1, tenant=OTHER)
    assert tasks(figures) == {("chat", OTHER): {"served": 1}}


def test_routes_that_are_gone_are_forgotten():
    figures = Figures()
    figures.answered("chat", 200, 0.1, tenant="acme")
    figures.answered("old", 200, 0.1, tenant="acme")
    figures.keep({"chat"})
    assert set(tasks(figures)) == {("chat", "acme")}


def test_first_bytes_are_a_histogram_of_their_own():
    figures = Figures()
    figures.first_byte("chat", 0.02)
    figures.first_byte("chat", 7.0)
    samples = {
        sample.labels.get("le"): sample.value
        for sample in family(figures, "leeward_edge_ttft_seconds").samples
        if sample.name.endswith("_bucket")
    }
    assert (samples["0.01"], samples["0.025"], samples["5.0"], samples["10.0"], samples["+Inf"]) == (
        0,
        1,
        1,
        2,
        2,
    )


def test_tokens_are_read_in_every_dialect():
    told = {
        b'{"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":34,"total_tokens":46}}': (12, 34),
        b'{"content":[],"usage":{"input_tokens": 5, "output_tokens": 6}}': (5, 6),
        b'{"candidates":[],"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":8}}': (7, 8),
        b'{"data":[],"usage":{"prompt_tokens":3,"total_tokens":3}}': (3, 0),
        b'data: {"type":"message_delta","usage":{"output_tokens":9}}\n\ndata: [DONE]\n\n': (0, 9),
    }
    for content, expected in told.items():
        assert tokens_of(content) == Tokens(*expected)


def test_an_answer_in_one_piece_tells_its_tokens_as_it_is_checked():
    chat = b'{"choices":[{"finish_reason":"stop"}],"usage":%b}'
    assert keeps(Kind.CHAT, chat % b'{"prompt_tokens":12,"completion_tokens":34}') == Tokens(12, 34)
    message = b'{"content":[],"stop_reason":"end_turn","usage":{"input_tokens":5,"output_tokens":6}}'
    assert keeps(Kind.MESSAGES, message) == Tokens(5, 6)
    assert keeps(Kind.EMBEDDINGS, b'{"data":[1],"usage":{"prompt_tokens":3}}') == Tokens(3, 0)
    assert keeps(Kind.RESPONSES, b'{"output":[],"usage":{"input_tokens":1,"output_tokens":2}}') == Tokens(
        1, 2
    )


def test_odd_usage_breaks_no_answer():
    chat = b'{"choices":[{"finish_reason":"stop"}],"usage":%b}'
    for odd in (
        b"null",
        b'"many"',
        b"[]",
        b'{"prompt_tokens":"12"}',
        b'{"prompt_tokens":null}',
        b'{"prompt_tokens":-1}',
    ):
        assert keeps(Kind.CHAT, chat % odd) is NONE
    assert keeps(Kind.CHAT, b'{"choices":[{"finish_reason":"stop"}]}') is NONE
    assert keeps(Kind.CHAT, b'{"choices":[{"finish_reason":null}],"usage":{"prompt_tokens":1}}') is None


def test_what_a_model_writes_is_no_usage():
    """Inside a JSON text quotation marks are escaped."""
    assert tokens_of(rb'{"choices":[{"text":"{\"prompt_tokens\":999,\"completion_tokens\":999}"}]}') is NONE
    assert tokens_of(b'{"choices":[{"text":"tokens, tokens"}]}') is NONE
    assert tokens_of(b"") is NONE


def test_only_the_end_of_a_long_answer_is_looked_at():
    usage = b'"usage":{"prompt_tokens":1,"completion_tokens":2}}'
    assert tokens_of(b'{"text":"' + b"x" * 100_000 + b'",' + usage) == Tokens(1, 2)
    assert tokens_of(b"{" + usage[:-1] + b',"text":"' + b"x" * TAIL_BYTES + b'"}') is NONE


def move(log: FailoverLog, now: float, n: int = 1) -> None:
    log.moved(
        now,
        request_id=f"r-{n}",
        route="chat",
        decision="1.7",
        attempt=2,
        failed="alpha",
        error="connection_refused",
        target="beta",
        trace_id=None,
    )


def test_every_failover_has_its_line_with_ids():
    log = FailoverLog(now=0.0)
    with capture_logs() as lines:
        move(log, 0.0)
    (line,) = lines
    assert line["event"] == "failover"
    assert (line["request_id"], line["route"], line["decision"]) == ("r-1", "chat", "1.7")
    assert (line["failed"], line["error"], line["target"], line["attempt"]) == (
        "alpha",
        "connection_refused",
        "beta",
        2,
    )


def test_every_step_of_a_ladder_has_its_line_with_its_context():
    log = FailoverLog(now=0.0)
    told = {
        "request_id": "r-1",
        "route": "chat",
        "decision": "1.7",
        "attempts": 2,
        "rung": "static",
        "why": "upstream_failed",
        "failures": "alpha: connection_refused, beta: http_response_status",
        "active": 17,
        "body_bytes": 60,
    }
    with capture_logs() as lines:
        for n in range(100):
            log.degraded(n / 1000, **told, trace_id="t")
    assert lines[0].items() >= {"event": "degraded", "trace_id": "t", **told}.items()
    assert len(lines) + log.suppressed == 100
    assert len(lines) == BURST


def test_a_storm_of_failovers_fills_no_disk_and_what_is_left_out_is_said():
    log = FailoverLog(now=0.0)
    with capture_logs() as lines:
        for n in range(60_000):
            move(log, n / 1000, n)
    assert BURST <= len(lines) <= BURST + 60 + 1
    assert sum(line.get("suppressed", 0) for line in lines) + len(lines) + log.suppressed == 60_000
    with capture_logs() as lines:
        log.turn(60.0 + SAY_S)
        log.turn(60.0 + SAY_S)
    (line,) = lines
    assert line["suppressed"] > 0
    assert log.suppressed == 0
