"""The fault panel's state: what it takes, and on whom it falls."""

import pytest

from ops.simulator.faults import NO_FAULTS, BadFaults, Faults, Only, Panel, Status, decode


def panel(**faults) -> Panel:
    made = Panel()
    made.put(Faults(**faults))
    return made


def test_nothing_is_wrong_until_told():
    """An empty state is no fault."""
    assert decode(b"{}") == NO_FAULTS
    assert panel().for_request("/v1/models", stream=False) == NO_FAULTS


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b'{"latency": 1}', "latency"),
        (b'{"status": {"code": 1000}}', "status.code"),
        (b'{"flap": {"up_s": 1}}', "flap"),
        (b'{"capacity": {"inflight": 0}}', "capacity.inflight"),
        (b'{"only": {"path": "/v1"}}', "only.path"),
        (b'{"drip": {"bytes": "many"}}', "drip.bytes"),
        (b'{"tokens_per_s": 0}', "tokens_per_s"),
        (b"nonsense", ""),
    ],
)
def test_what_is_not_on_the_menu_is_refused_by_field(raw, field):
    """A fault that is misspelt must not be taken for one that does nothing."""
    with pytest.raises(BadFaults) as bad:
        decode(raw)
    assert bad.value.field == field


def test_only_limits_a_fault_to_paths_and_to_streams():
    """Both conditions must hold."""
    faulty = panel(status=Status(code=500), only=Only(paths=("/v1/chat", "/v1/messages"), stream=True))
    assert faulty.for_request("/v1/chat/completions", stream=True).status is not None
    assert faulty.for_request("/v1/chat/completions", stream=False) == NO_FAULTS
    assert faulty.for_request("/v1/embeddings", stream=True) == NO_FAULTS


def test_share_draws_the_same_for_the_same_seed():
    """A run can be repeated, and about that share is hit."""

    def draws(seed: int) -> list[bool]:
        faulty = panel(hang=True, share=0.3, seed=seed)
        return [faulty.for_request("/", stream=False).hang for _ in range(1000)]

    assert draws(1) == draws(1) != draws(2)
    assert 230 <= sum(draws(1)) <= 370


def test_share_0_and_1_are_never_and_always():
    """The ends of the range are exact."""
    assert not any(panel(hang=True, share=0).for_request("/", stream=False).hang for _ in range(100))
    assert all(panel(hang=True, share=1).for_request("/", stream=False).hang for _ in range(100))


def test_connections_are_reset_only_when_told_after_accept():
    """`reset: request` lets the connection be."""
    assert panel(reset="accept").resets_connection()
    assert not panel(reset="request").resets_connection()
    assert not panel(reset="accept", share=0).resets_connection()


def test_agents_are_shell_patterns():
    """A region's probers are picked by their name, not by its beginning."""
    faulty = panel(hang=True, only=Only(agents=("leeward-prober/us-east", "curl/*")))
    for agent, picked in (
        ("leeward-prober/us-east", True),
        ("leeward-prober/us-east-2", False),
        ("curl/8.5.0", True),
        ("", False),
    ):
        assert faulty.for_request("/", stream=False, agent=agent).hang is picked


def test_owners_do_not_wipe_each_other():
    """A request suffers all that pick it; taking one away leaves the others."""
    made = panel(latency_ms=5)
    made.put(Faults(ttft_ms=100, only=Only(stream=True)), "one")
    made.put(Faults(status=Status(code=500)), "two")
    both = made.for_request("/", stream=True)
    assert (both.latency_ms, both.ttft_ms, both.status) == (5, 100, Status(code=500))
    assert made.for_request("/", stream=False).ttft_ms is None
    made.put(NO_FAULTS)
    made.put(NO_FAULTS, "two")
    assert made.for_request("/", stream=True) == Faults(ttft_ms=100)
    assert (made.held("one").ttft_ms, made.held("two")) == (100, NO_FAULTS)


def test_a_renewed_share_goes_on_drawing():
    """Renewing every few requests must not draw the same few numbers again and again."""
    made = Panel()
    drawn = []
    for _ in range(200):
        made.put(Faults(hang=True, share=0.5, for_s=10), "one")
        drawn.append(made.for_request("/", stream=False).hang)
    assert 70 <= sum(drawn) <= 130


def test_the_listener_follows_every_owner():
    """It is closed as long as one of them wants it so."""
    made = panel(refuse=True)
    made.put(Faults(refuse=True), "one")
    made.put(NO_FAULTS)
    assert made.refuses
    made.put(NO_FAULTS, "one")
    assert not made.refuses


def test_there_is_an_end_to_owners():
    """The next one is refused, a known one is not."""
    made = Panel()
    for number in range(64):
        made.put(Faults(hang=True), f"o-{number}")
    made.put(Faults(latency_ms=1), "o-1")
    with pytest.raises(BadFaults, match="64 owners"):
        made.put(Faults(hang=True), "one-more")
