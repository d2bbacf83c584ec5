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
    "TARGET_COOLING": "{subject} is at its account's limit and asked last",
    "FROZEN": "Automatic removals are frozen",
    "UNFROZEN": "Automatic removals are possible again",
    "CAPACITY": "Demand was weighed against capacity",
    "GENERATION_RAISED": "The coordination store had lost history, so every document was written anew",
    "REVISED": "The document was written anew",
    "SPILL": "What would serve this region first is full, so a part goes on to others",
    "SHED": "There is not enough to carry all requests, so a part is turned away",
    "PANIC": "So little is left that doubtful targets are used, too",
}

_ORDERS: Mapping[str, str] = {
    "DRAINED": "{subject} drained",
    "UNDRAINED": "{subject} drained no more",
    "PINNED": "Traffic pinned: {subject} first",
    "WEIGHTS_SET": "Weights set by hand",
    "OPERATOR_FROZEN": "Automatic removals suspended by hand",
    "OVERRIDE_ENDED": "An override ended",
}
"""Given by people: these say by whom, why and until when."""


_ROLLOUTS: Mapping[str, str] = {
    "ROLLOUT_STEP": "Rollout {rollout} gives {targets} {percent} % of its tier",
    "ROLLOUT_ENDED": "Rollout {rollout} of {targets} is {fate}",
}

FULL = 1000
"""Permille of its weight that a target has unless anything is said."""
_OF_NO_USE_ONCE_LIFTED = frozenset({"kind", "reason", "expires_at"})


def sentence(reason: Reason) -> str:
    """`Target alpha-eu-west left the traffic in eu-west: seen 2 of 3 vantages DOWN, hard true.`"""
    if reason.code in _ORDERS:
        return _order(reason)
    if reason.code in _ROLLOUTS and "rollout" in reason.values:
        return _rollout(reason)
    if reason.code == "GENERATION_RAISED" and "backup" in reason.values:
        return _restored(reason)
    subject = f"Target {reason.target}" if reason.target else "A target"
    beginning = _beginning(reason)
    text = beginning.format(subject=subject)
    if reason.target and "{subject}" not in beginning:
        text += f" ({reason.target})"
    if reason.region:
        text += f" in {reason.region}"
    values = dict(reason.values)
    if _stays(reason):
        values.pop("from_permille")
    if reason.code == "TARGET_COOLING":
        values.pop("ended", None)
    return _with_figures(text, values)


def _beginning(reason: Reason) -> str:
    """Of its code; of a target that keeps a part of its traffic, what became of that part."""
    kept = reason.values.get("kept_permille", 0)
    if reason.code == "TARGET_DOWN" and kept:
        more = kept > reason.values.get("from_permille", FULL)
        return "{subject} gets more traffic again" if more else "{subject} gets less traffic"
    if _stays(reason):
        return "{subject} is returning, and stays where it is"
    if reason.code == "TARGET_COOLING" and reason.values.get("ended"):
        return "{subject} is below its account's limit and asked in its turn again"
    return _BEGINNINGS.get(reason.code, reason.code.replace("_", " ").capitalize())


def _stays(reason: Reason) -> bool:
    """Whether it is told of a return that goes no further for now."""
    values = reason.values
    return (
        reason.code == "RAMP_STEP"
        and "permille" in values
        and values.get("from_permille") == values["permille"]
    )


def brief(reason: Reason) -> str:
    """`Target alpha-eu-west left the traffic: 3 of 3 vantages DOWN: connect refused.` What was seen or done,
    where that is told, without the figures that led to it."""
    values = reason.values
    bare = sentence(reason.model_copy(update={"values": {}})).removesuffix(".")
    if reason.code == "TARGET_UP":
        return f"{bare}."
    if _stays(reason):
        return f"{bare.removesuffix(', step by step')}, and stays at {values['permille'] / 10:g} % of its weight."
    if reason.code == "RAMP_STEP" and "permille" in values:
        return (
            f"{bare}: {values.get('from_permille', 0) / 10:g} to {values['permille'] / 10:g} % of its weight."
        )
    if reason.code == "TARGET_DOWN" and values.get("kept_permille"):
        subject = f"Target {reason.target}" if reason.target else "A target"
        bare = _beginning(reason).format(subject=subject)
        if not values.get("seen"):
            was = f"{values.get('from_permille', FULL) / 10:g} to {values['kept_permille'] / 10:g}"
            return f"{bare}: {was} % of its weight."
    if values.get("seen") and reason.code not in _ORDERS and reason.code not in _ROLLOUTS:
        return f"{bare}: {values['seen']}."
    return sentence(reason)


def _order(reason: Reason) -> str:
    """`Targets in eu-west drained by ann until 2030-01-01T12:30:00Z, "new racks": override drain-17.`"""
    values = dict(reason.values)
    where = values.pop("targets_in", None)
    subject = f"Target {reason.target}" if reason.target else f"Targets in {where}" if where else "Targets"
    beginning = _ORDERS[reason.code]
    text = beginning.format(subject=subject)
    if reason.target and "{subject}" not in beginning:
        text += f" ({reason.target})"
    if reason.region:
        text += f" for clients in {reason.region}"
    if "ended_by" in values:
        text += f", lifted by {values.pop('ended_by')}, {_quoted(values.pop('ended_reason', ''))}"
        values = {name: value for name, value in values.items() if name not in _OF_NO_USE_ONCE_LIFTED}
    elif reason.code in ("UNDRAINED", "OVERRIDE_ENDED") and "expires_at" in values:
        text += f", as planned for {values.pop('expires_at')}"
    elif "author" in values:
        text += f" by {values.pop('author')}"
        if "expires_at" in values:
            text += f" until {values.pop('expires_at')}"
        if "reason" in values:
            text += f", {_quoted(values.pop('reason'))}"
    return _with_figures(text, values)


def _restored(reason: Reason) -> str:
    """`The backup of 1.4 was restored by ada, so every document was written anew: from 1, to 2.`"""
    values = dict(reason.values)
    backup, author = values.pop("backup"), values.pop("restored_by", "somebody")
    text = f"The backup of {backup} was restored by {author}, so every document was written anew"
    return _with_figures(text, values)


def _rollout(reason: Reason) -> str:
    """`Rollout ro-2 gives alpha-eu-west 20 % of its tier: new 0 failed of 87, old 0 failed of 416.`"""
    values = reason.values
    fate = str(values.get("state", "")).lower().replace("_", " ")
    text = _ROLLOUTS[reason.code].format(
        rollout=values.get("rollout", "?"),
        targets=", ".join(map(str, values.get("targets", ()))),
        percent=f"{values.get('permille', 0) / 10:g}",
        fate=fate,
    )
    return f"{text}: {values.get('found', '')}."


def _quoted(words: object) -> str:
    return f'"{words}"'


def _with_figures(text: str, values: Mapping[str, Any]) -> str:
    figures = ", ".join(_figure(name, value) for name, value in values.items())
    return f"{text}: {figures}." if figures else f"{text}."


def _figure(name: str, value: Any) -> str:
    """`hold down 2 s`, `from 30 %`: names end in their unit, people say it last."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        words, _, unit = name.rpartition("_")
        if words and unit in ("s", "ms"):
            return f"{words.replace('_', ' ')} {value:g} {unit}"
        if unit == "permille":
            return f"{words.replace('_', ' ') or 'at'} {value / 10:g} %"
    return f"{name.replace('_', ' ')} {_text(value)}"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return " ".join(f"{name}={_text(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(_text(item) for item in value)
    return str(value)
