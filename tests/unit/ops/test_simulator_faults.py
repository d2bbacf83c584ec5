"""The fault panel's state: what it takes, and on whom it falls."""

import pytest

from ops.simulator.faults import NO_FAULTS, BadFaults, Faults, Only, Panel, Status, decode


def panel(**faults) -> Panel:
    made = Panel(on_change=lambda: None)
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


def test_every_change_is_told():
    """Whoever keeps the listener hears of each PUT."""
    heard = []
    made = Panel(on_change=lambda: heard.append(made.faults))
    made.put(Faults(refuse=True))
    made.put(NO_FAULTS)
    assert heard == [Faults(refuse=True), NO_FAULTS]
