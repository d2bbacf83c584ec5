"""Who leads, by what replicas say of themselves: a name on record is nobody who decides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shared.vocabulary.status import LeaderStatus

SILENT_S: Final = 15.0
"""Three Beats: a leader writes one into etcd every 5 s, and another takes over in less."""
NO_ETCD: Final = "etcd does not answer: nothing new can be decided; edges go on by the last decision"


@dataclass(frozen=True, slots=True)
class Leading:
    """As the replicas that answered know it."""

    leader: LeaderStatus | None = None
    """Null while nobody leads."""
    last: LeaderStatus | None = None
    """The last one on record, whether it leads or not."""
    etcd_answers: bool = True
    """Whether a Beat came through etcd lately; also true where no replica has seen any yet."""


def leading(answers: Sequence[Mapping[str, Any] | None], *, everybody: bool = False) -> Leading:
    """From what `GET /v1/leader` answered, None where nothing did. With `everybody` these are all replicas
    of the fleet: then one of them must say that it leads. Otherwise the word of others counts, too."""
    told = [answer for answer in answers if answer]
    last = _greatest(told)
    age_s = min((told_s for answer in told if (told_s := answer.get("beat_age_s")) is not None), default=None)
    if age_s is not None and age_s > SILENT_S:
        return Leading(None, last, etcd_answers=False)
    claims = [answer for answer in told if answer.get("role") == "leader"]
    if claims:
        return Leading(_greatest(claims), last)
    denied = last is not None and any(answer.get("replica") == last.id for answer in told)
    return Leading(None if everybody or denied else last, last)


def _greatest(answers: Sequence[Mapping[str, Any]]) -> LeaderStatus | None:
    """The leader with the greatest epoch that is named."""
    named = [
        LeaderStatus.model_validate(each["leader"], extra="ignore") for each in answers if each.get("leader")
    ]
    return max(named, key=lambda one: one.epoch, default=None)
