"""How a drill's fault is said to whoever does it."""

from typing import Any

import msgspec
import pytest

from edge_router.core.fault_filter import FilterOrder
from ops.client import Refused
from ops.drill.injectors.drain import AT_LEAST_S, Drain
from ops.drill.injectors.make import _to_edge, _to_keeper, _to_panel
from ops.drill.ports import Place
from ops.errors import Unreachable
from ops.keeper.faults import FaultOrder
from ops.simulator.faults import decode_owned
from shared.vocabulary.drill import BY, DrillFault

NEEDS: dict[str, dict[str, Any]] = {
    "latency": {"ms": 250},
    "slow_ttft": {"ms": 250},
    "clock_skew": {"skew_s": -60},
}
PLACE = Place(
    "drill-1.0", "there", url="http://t", processes=("bus-a",), targets=("alpha-a",), observer="eu-west"
)


def said(by: str, kind: str, **how: Any) -> DrillFault:
    return DrillFault.model_validate({"fault": kind, "by": by, **NEEDS.get(kind, {}), **how})


@pytest.mark.parametrize("kind", sorted(BY["panel"]))
def test_every_fault_is_one_of_the_panels(kind: str) -> None:
    """In its own words, with a time to live, and so that something is wrong."""
    body = _to_panel(said("panel", kind, share_permille=300), PLACE)
    faults = decode_owned(msgspec.json.encode({**body, "for_s": 15}))
    assert (faults.share, faults.for_s) == (0.3, 15)
    assert faults.only.agents == (("leeward-prober/eu-west",) if kind == "partition" else ())


def test_what_a_fault_says_is_what_the_panel_hears() -> None:
    """Status, retry, tokens and the share of refusals."""
    assert _to_panel(said("panel", "errors", status=502), PLACE)["status"] == {"code": 502}
    assert _to_panel(said("panel", "throttle", retry_after_s=9), PLACE)["throttle"] == {"retry_after": 9}
    assert _to_panel(said("panel", "cut", after_events=7), PLACE)["cut_after_tokens"] == 7
    assert _to_panel(said("panel", "stall"), PLACE)["stall_after_tokens"] == 2
    assert _to_panel(said("panel", "refuse"), PLACE)["refuse"] is True
    assert _to_panel(said("panel", "refuse", share_permille=500), PLACE)["reset"] == "accept"


@pytest.mark.parametrize("kind", sorted(BY["edge"]))
def test_every_fault_is_one_of_the_filters(kind: str) -> None:
    """For the place's targets, at its share."""
    order = FilterOrder.model_validate(
        {**_to_edge(said("edge", kind, share_permille=300), PLACE), "for_s": 15}
    )
    assert (order.fault, order.targets, order.share_permille) == (kind, ("alpha-a",), 300)


@pytest.mark.parametrize("kind", sorted(BY["stack"]))
def test_every_fault_is_one_of_the_keepers(kind: str) -> None:
    """For the place's processes."""
    order = FaultOrder.model_validate({**_to_keeper(said("stack", kind), PLACE), "for_s": 15})
    assert (order.fault, order.processes) == (kind, ("bus-a",))
    assert order.skew_s == (-60 if kind == "clock_skew" else None)


class Planes:
    """A control plane that keeps overrides, and nothing else; no two of the same words. `refuses` and
    `loses`: the next POSTs are not taken, or taken and not answered."""

    def __init__(self) -> None:
        self.given: list[dict[str, Any]] = []
        self.remaining: dict[str, float] = {}
        self.refuses = self.loses = 0

    async def change(self, method: str, path: str, body: Any) -> Any:
        if method == "POST":
            if self.refuses:
                self.refuses -= 1
                raise Refused(503, "etcd does not answer")
            if any(known["spec"] == _spec(body) for known in self._known()):
                raise Refused(409, "says the same")
            self.given.append(body)
            name = f"drain-{len(self.given)}"
            self.remaining[name] = body["for_s"]
            if self.loses:
                self.loses -= 1
                raise Unreachable("no answer")
            return {"id": name}
        name = path.rpartition("/")[2]
        if name not in self.remaining:
            raise Refused(404, "no such override")
        del self.remaining[name]
        return {}

    async def get(self, path: str) -> Any:
        if path == "/v1/overrides":
            return {"overrides": self._known()}
        name = path.rpartition("/")[2]
        if name not in self.remaining:
            raise Refused(404, "no such override")
        return {"remaining_s": self.remaining[name]}

    def _known(self) -> list[dict[str, Any]]:
        return [
            {
                "id": f"drain-{n}",
                "spec": _spec(body),
                "author": body["author"],
                "reason": body["reason"].strip(),
            }
            for n, body in enumerate(self.given, start=1)
            if f"drain-{n}" in self.remaining
        ]


def _spec(body: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": "drain",
        "region": body.get("region"),
        "target": body.get("target"),
        "route": None,
    }


def _drain(planes: Planes) -> Drain:
    place = Place("d", "w", region="eu-west")
    return Drain(planes, place, author="ann", reason="drill drill-1: x ")  # type: ignore[arg-type]  # all it asks


async def test_a_drain_is_given_with_its_end_and_lifted() -> None:
    """It ends by itself though nobody lifts it; lifting one that is over is no fault."""
    planes = Planes()
    drain = Drain(planes, Place("d", "w", region="eu-west"), author="drill-1", reason="rehearsed")  # type: ignore[arg-type]
    await drain.put(for_s=15)
    word = {"author": "drill-1", "reason": "rehearsed"}
    assert planes.given == [{"kind": "drain", "region": "eu-west", **word, "for_s": AT_LEAST_S}]
    await drain.renew(for_s=15)
    assert len(planes.given) == 1
    planes.remaining["drain-1"] = 14.0
    await drain.renew(for_s=15)
    assert set(planes.remaining) == {"drain-2"}
    planes.remaining.clear()
    await drain.undo()
    await drain.undo()


async def test_a_drain_that_could_not_be_given_anew_is_tried_again() -> None:
    """Lifted and not given, it does not hold: renewing says so until it does."""
    planes = Planes()
    drain = _drain(planes)
    await drain.put(for_s=15)
    planes.remaining["drain-1"], planes.refuses = 14.0, 2
    for _ in range(2):
        with pytest.raises(Refused):
            await drain.renew(for_s=15)
        assert not planes.remaining
    await drain.renew(for_s=15)
    assert set(planes.remaining) == {"drain-2"}
    planes.remaining.clear()
    await drain.renew(for_s=15)
    assert set(planes.remaining) == {"drain-3"}


async def test_a_drain_whose_answer_was_lost_is_lifted() -> None:
    """By its words; an operator's own drain of the same place is let be."""
    planes = Planes()
    planes.loses = 1
    drain = _drain(planes)
    with pytest.raises(Unreachable):
        await drain.put(for_s=15)
    planes.given.append({"region": "us-east", "author": "ann", "reason": "new racks"})
    planes.remaining["drain-2"] = 900.0
    await drain.undo()
    assert set(planes.remaining) == {"drain-2"}


async def test_a_drain_whose_answer_was_lost_is_renewed_as_it_is() -> None:
    """The one that is there is taken for its own, and not given twice."""
    planes = Planes()
    drain = _drain(planes)
    await drain.put(for_s=15)
    planes.remaining["drain-1"], planes.loses = 14.0, 1
    with pytest.raises(Unreachable):
        await drain.renew(for_s=15)
    await drain.renew(for_s=15)
    assert set(planes.remaining) == {"drain-2"}
    await drain.undo()
    assert not planes.remaining
