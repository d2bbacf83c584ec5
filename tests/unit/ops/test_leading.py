"""Who leads, by what replicas say of themselves."""

from typing import Any

from ops.leading import leading

A = {"id": "cp-a", "region": "east", "epoch": 4, "url": "http://a:1"}
B = {"id": "cp-b", "region": "west", "epoch": 5, "url": "http://b:1"}


def said(replica: str, role: str, leader: Any = A, beat_age_s: float | None = 1.0) -> dict[str, Any]:
    return {"replica": replica, "role": role, "leader": leader, "beat_age_s": beat_age_s}


def test_a_replica_that_says_it_leads_does() -> None:
    """Of two in a handover the one of the later term; who does not answer hides nobody."""
    found = leading([said("cp-a", "leader"), None, said("cp-b", "follower")], everybody=True)
    assert (found.leader, found.etcd_answers) == (found.last, True)
    assert found.leader is not None
    assert found.leader.id == "cp-a"
    both = leading([said("cp-a", "leader"), said("cp-b", "leader", B)], everybody=True)
    assert both.leader is not None
    assert both.leader.id == "cp-b"


def test_a_name_on_record_leads_no_more_than_it_says() -> None:
    """All were asked and none leads; or the one that is named says that it does not."""
    followers = [said("cp-a", "follower"), said("cp-b", "follower")]
    found = leading(followers, everybody=True)
    assert (found.leader, found.etcd_answers) == (None, True)
    assert found.last is not None
    assert found.last.id == "cp-a"
    assert leading(followers[:1]).leader is None
    assert leading(followers[1:]).leader is not None, "the named one may lead, unasked"
    assert leading([]).leader is None


def test_without_beats_nobody_decides() -> None:
    """Three Beats missed, at every replica: one that is cut off from etcd alone proves nothing."""
    old = said("cp-a", "leader", beat_age_s=15.1)
    found = leading([old, said("cp-b", "follower", beat_age_s=60.0)], everybody=True)
    assert (found.leader, found.etcd_answers) == (None, False)
    assert leading([said("cp-a", "leader"), said("cp-b", "follower", beat_age_s=60.0)]).etcd_answers
    assert leading([said("cp-b", "follower", None, None)]).etcd_answers, "before the first Beat"
