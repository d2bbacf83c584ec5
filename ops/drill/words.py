"""A drill's figures in words, the same on the page, in the terminal and in test results."""

from collections.abc import Mapping

_NAMES: Mapping[str, str] = {
    "detect_ms": "detected after",
    "decide_ms": "decided after",
    "apply_ms": "applied by all edges concerned after",
    "recover_ms": "recovered, from the end of the fault, after",
    "recovered_ms": "recovered, from the end of the fault, after",
    "min_success_permille": "success rate",
    "success_permille": "success rate",
    "success_rate": "success rate",
    "max_lost_streams": "lost streams",
    "lost_streams": "lost streams",
    "max_load_permille": "load, of what was planned",
    "load_permille": "load, of what was planned",
    "max_latency_ms_p99": "latency (p99)",
    "latency_ms_p99": "latency (p99)",
    "max_planned_permille": "planned load of the survivors' capacity",
    "planned_permille": "planned load of the survivors' capacity",
    "min_regions": "regions with a target that answers",
    "requests": "requests during the fault",
    "moves": "whether decisions move traffic",
}


def named(name: str) -> str:
    """What a figure is called: `detect_ms` is `detected after`."""
    return _NAMES.get(name, name.replace("_", " "))


def amount(name: str, value: object) -> str:
    """`value` with the unit that `name` ends with: `412 ms`, `99.5 %`, `12 s`."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "never"
    if not isinstance(value, int | float):
        return str(value)
    if name.endswith("_ms") or "_ms_" in name:
        return f"{value:,.0f} ms".replace(",", " ")
    if name.endswith("_permille"):
        return f"{value / 10:g} %"
    if name.endswith("_rate"):
        return f"{100 * value:.3f}".rstrip("0").rstrip(".") + " %"
    return f"{value:g} s" if name.endswith("_s") else f"{value:g}"


def in_words(values: Mapping[str, object]) -> str:
    """An event's values: `region eu-west, leader died yes`."""
    return ", ".join(f"{key.replace('_', ' ')} {_plain(value)}" for key, value in values.items())


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return " ".join(f"{key} {_plain(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return " ".join(_plain(each) for each in value) or "none"
    return "none" if value is None else str(value)
