"""Leadership refuses paces under which a healthy leader would lose its lease."""

import pytest

from control_plane.loops.lead import advertised_url, check_timings
from shared.vocabulary.node import Timings
from tests.support.still_replica import NODE


def test_the_defaults_make_sense() -> None:
    """As shipped, and with the shortest lease etcd grants."""
    check_timings(Timings())
    check_timings(Timings(lease_ttl_s=2))


@pytest.mark.parametrize(
    "timings",
    [
        Timings.model_construct(lease_ttl_s=0, reconcile_s=0.25),
        Timings.model_construct(lease_ttl_s=2, reconcile_s=1.9),
    ],
)
def test_contradictions_are_refused(timings: Timings) -> None:
    """No room for one failed renewal, or a pass longer than a term."""
    with pytest.raises(ValueError, match=r"lease_ttl_s|reconcile_s"):
        check_timings(timings)


def test_others_reach_the_api_where_it_says() -> None:
    """The advertised address wins over the one listened on."""
    assert advertised_url(NODE) == "http://127.0.0.1:7100"
    told = NODE.model_copy(update={"advertise_url": "https://cp.example"})
    assert advertised_url(told) == "https://cp.example"
