"""Reasons in sentences, for people who ask why their traffic moved. The codes stay the contract."""

from collections.abc import Mapping
from typing import Any

from shared.vocabulary.decision import Reason

_BEGINNINGS: Mapping[str, str] = {
    "INITIAL": "First decision for this route",
    "CONFIG_CHANGED": "The configuration changed",
    "ROUTE_REMOVED": "The route was removed from the configuration",
    "TARGET_DOWN": "{subject} left the traffic",
    "TARGET_DEGRADED": "{subject} is degraded",
    "TARGET_UP": "{subject} is back with its full weight",
    "RAMP_STEP": "{subject} is returning, step by step",
    "HOLD_DOWN": "{subject} is kept although it would be held out, for nothing else is left",
    "REGIONAL_DOWN": "{subject} left the traffic of one region",
    "FROZEN": "Automatic removals are frozen",
    "UNFROZEN": "Automatic removals are possible again",
    "CAPACITY": "What the remaining targets can carry sets the shares",
    "GENERATION_RAISED": "The coordination store had lost history, so every document was written anew",
    "REVISED": "The document was written anew",
}


def sentence(reason: Reason) -> str:
    """`Target alpha-eu-west left the traffic in eu-west: seen 2 of 3 vantages DOWN, hard true.`"""
    subject = f"Target {reason.target}" if reason.target else "A target"
    beginning = _BEGINNINGS.get(reason.code, reason.code.replace("_", " ").capitalize())
    text = beginning.format(subject=subject)
    if reason.target and "{subject}" not in beginning:
        text += f" ({reason.target})"
    if reason.region:
        text += f" in {reason.region}"
    figures = ", ".join(f"{name.replace('_', ' ')} {_text(value)}" for name, value in reason.values.items())
    return f"{text}: {figures}." if figures else f"{text}."


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return " ".join(_text(item) for item in value)
    return str(value)
