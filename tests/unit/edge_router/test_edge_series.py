"""Metrics of several processes as one."""

from edge_router.core.series import Family, Retired, merge


def counter(name: str, value: float, **labels: str) -> Family:
    return Family(name, "text", "counter", {(f"{name}_total", tuple(labels.items())): value})


def gauge(name: str, values: dict[str, float], label: str = "target") -> Family:
    return Family(name, "text", "gauge", {(name, ((label, key),)): value for key, value in values.items()})


def admission(**state_of: str) -> Family:
    return Family(
        "leeward_edge_admission",
        "text",
        "gauge",
        {
            ("leeward_edge_admission", (("target", target), ("state", state))): float(state == is_in)
            for target, is_in in state_of.items()
            for state in ("ADMITTING", "EJECTED", "PROBATION")
        },
    )


def test_counters_buckets_and_gauges_add_up_by_their_labels() -> None:
    """Series that only one worker has are there too."""
    one = [counter("c", 2, route="a"), gauge("g", {"t": 1})]
    other = [counter("c", 3, route="a"), counter("d", 1, route="b"), gauge("g", {"t": 2, "u": 5})]
    found = {family.name: family.samples for family in merge([one, other])}
    assert found["c"] == {("c_total", (("route", "a"),)): 5}
    assert found["d"] == {("d_total", (("route", "b"),)): 1}
    assert found["g"] == {("g", (("target", "t"),)): 3, ("g", (("target", "u"),)): 5}
    assert one[0].samples == {("c_total", (("route", "a"),)): 2}


def test_what_all_say_of_the_same_thing_is_not_added() -> None:
    """The mode is one, whatever the number of workers."""
    mode = gauge("leeward_edge_mode", {"FRESH": 1.0, "STALE": 0.0}, "mode")
    (merged,) = merge([[mode], [mode], [mode]])
    assert merged.samples == mode.samples


def test_a_target_is_in_one_state_the_worst() -> None:
    """1 for exactly one state of each target."""
    (merged,) = merge([[admission(t="ADMITTING", u="PROBATION")], [admission(t="EJECTED", u="ADMITTING")]])
    states = {labels for (_, labels), value in merged.samples.items() if value == 1.0}
    assert states == {(("target", "t"), ("state", "EJECTED")), (("target", "u"), ("state", "PROBATION"))}
    assert len(merged.samples) == 6


def test_a_worker_that_ended_goes_on_counting_and_its_gauges_go() -> None:
    """Lives add up; series of routes and targets that are gone are forgotten."""
    retired = Retired()
    for _ in range(2):
        retired.add([counter("c", 2, route="a"), counter("r", 1, target="t"), gauge("g", {"t": 1})])
    (total, *_) = merge([retired.families, [counter("c", 1, route="a")]])
    assert total.samples == {("c_total", (("route", "a"),)): 5}
    assert all(family.name != "g" for family in retired.families)
    retired.keep(routes={"b"}, targets={"t"})
    samples = {family.name: family.samples for family in retired.families}
    assert samples == {"c": {}, "r": {("r_total", (("target", "t"),)): 2}}
