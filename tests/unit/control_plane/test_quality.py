"""How many of the last answers were right, and what follows."""

from collections.abc import Mapping

from control_plane.core.quality import Answers, Kind, Standing, scores, together, worst
from shared.vocabulary.config import HealthPolicy

POLICY = HealthPolicy()
TWO: Mapping[Kind, int] = {"probes": 2, "traffic": 2}


def standing(
    *answers: Answers,
    before: Standing = "GOOD",
    agreeing: Mapping[Kind, int] = TWO,
    aside: frozenset[str] = frozenset(),
) -> list[Standing]:
    found = scores(
        together(answers),
        POLICY,
        aside=aside,
        agreeing=agreeing,
        before={"probes": before, "traffic": before},
    )
    return [score.standing for score in found]


def probes(vantage: str, judged: int, garbled: int) -> Answers:
    return Answers("probes", vantage, judged, garbled)


def traffic(vantage: str, judged: int, garbled: int) -> Answers:
    return Answers("traffic", vantage, judged, garbled)


def test_thresholds() -> None:
    """Below 900 in a thousand DEGRADED, below 500 DRAINED; under 20 answers nothing is decided."""
    assert standing(probes("a", 50, 5), probes("b", 50, 5)) == ["GOOD"]
    assert standing(probes("a", 50, 6), probes("b", 50, 5)) == ["DEGRADED"]
    assert standing(probes("a", 50, 26), probes("b", 50, 26)) == ["DRAINED"]
    assert standing(probes("a", 10, 10), probes("b", 9, 9)) == ["UNDECIDED"]
    assert standing() == []


def test_one_vantage_cannot_drain() -> None:
    """However many wrong answers it saw: its own path may be what cuts them short. Where it is the only
    one that looks, it can."""
    assert standing(traffic("a", 100, 100)) == ["DEGRADED"]
    assert standing(traffic("a", 100, 100), traffic("b", 100, 10)) == ["DEGRADED"]
    assert standing(traffic("a", 100, 100), traffic("b", 4, 4)) == ["DEGRADED"]
    assert standing(traffic("a", 100, 100), traffic("b", 5, 5)) == ["DRAINED"]
    assert standing(probes("a", 100, 100), agreeing={"probes": 1, "traffic": 2}) == ["DRAINED"]


def test_whole_answers_do_not_outweigh_wrong_ones() -> None:
    """Known answers and traffic are scored apart; what follows is the worse."""
    found = scores(
        (probes("a", 20, 15), probes("b", 20, 15), traffic("a", 100, 0), traffic("b", 100, 0)),
        POLICY,
        aside=frozenset(),
        agreeing=TWO,
        before={},
    )
    assert [score.standing for score in found] == ["DRAINED", "GOOD"]
    decisive = worst(found)
    assert decisive is not None
    assert (decisive.by, decisive.permille, decisive.judged) == ("probes", 250, 40)


def test_what_was_held_is_lifted_above_the_threshold() -> None:
    """A score on the edge does not flap: 91 % is good, but does not end DEGRADED; 93 % does."""
    on_the_edge, above = (
        (probes("a", 100, 9), probes("b", 100, 9)),
        (probes("a", 100, 7), probes("b", 100, 7)),
    )
    assert standing(*on_the_edge) == ["GOOD"]
    assert standing(*on_the_edge, before="DEGRADED") == ["DEGRADED"]
    assert standing(*above, before="DEGRADED") == ["GOOD"]
    half = (probes("a", 100, 49), probes("b", 100, 49))
    assert standing(*half) == ["DEGRADED"]
    assert standing(*half, before="DRAINED") == ["DRAINED"]


def test_contrarians_judge_nothing() -> None:
    """The answers of a prober set aside are left out, those of its region's traffic are not."""
    assert standing(probes("a", 100, 100), probes("b", 100, 0), aside=frozenset({"a"})) == ["GOOD"]
    assert standing(traffic("a", 100, 20), aside=frozenset({"a"})) == ["DEGRADED"]


def test_zero_thresholds_switch_it_off() -> None:
    """0: never."""
    off = HealthPolicy(quality_degraded_permille=0, quality_drain_permille=0)
    found = scores(
        (probes("a", 100, 100), probes("b", 100, 100)), off, aside=frozenset(), agreeing=TWO, before={}
    )
    assert [score.standing for score in found] == ["GOOD"]
