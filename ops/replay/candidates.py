"""The other configurations of a replay, from files: a whole `leeward.yaml`, a fleet, or only a `policy:`.

A file that has nothing but `policy:` says what is otherwise than in the recording; all it leaves out,
fields of the policy included, is as recorded.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ops.errors import Usage
from shared.config_faults import explain
from shared.config_file import ConfigError, dotted, load_fleet
from shared.vocabulary.base import ConfigModel
from shared.vocabulary.config import Fleet, Policy, problems
from shared.yaml_tree import Tree, Unreadable, read

MAX_CANDIDATES = 8
"""More columns than anybody can compare."""


class PolicyFile(ConfigModel):
    """`policy:` and nothing else."""

    policy: Policy


def candidates(paths: Sequence[Path], recorded: Fleet) -> Mapping[str, Fleet]:
    """File name without its suffix -> the fleet it means. Raises ConfigError, or Usage for too many."""
    if len(paths) > MAX_CANDIDATES:
        raise Usage(f"{len(paths)} policies to compare, {MAX_CANDIDATES} are the most")
    found: dict[str, Fleet] = {}
    for path in paths:
        name, number = path.stem, 1
        while name in found or name in ("happened", "recorded"):
            number += 1
            name = f"{path.stem}-{number}"
        found[name] = fleet_of(path, recorded)
    return found


def fleet_of(path: Path, recorded: Fleet) -> Fleet:
    """The fleet that the file at `path` means, given the `recorded` one. Raises ConfigError."""
    try:
        tree = read(path)
    except Unreadable as unreadable:
        line, _, what = unreadable.fault
        raise ConfigError([f"{path}:{line}: {what}" if line else f"{path}: {what}"]) from None
    if isinstance(tree.value, dict) and tree.value.keys() == {"policy"}:
        return _with_policy(path, tree, recorded)
    return load_fleet(path)


def _with_policy(path: Path, tree: Tree, recorded: Fleet) -> Fleet:
    faults = list(tree.faults)
    try:
        PolicyFile.model_validate(tree.value)
    except ValidationError as error:
        faults += explain(error, tree, PolicyFile)
    if faults:
        raise ConfigError([f"{path}:{fault.line}: {dotted(fault.where)}: {fault.what}" for fault in faults])
    policy = Policy.model_validate(_over(recorded.policy.model_dump(), tree.value["policy"]))
    fleet = recorded.model_copy(update={"policy": policy})
    if wrong := [(where, what) for where, what in problems(fleet) if where[:1] == ("policy",)]:
        raise ConfigError([f"{path}:{tree.line(where)}: {dotted(where)}: {what}" for where, what in wrong])
    return fleet


def _over(recorded: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """`recorded` with what is `given` in its place, section by section."""
    merged = dict(recorded)
    for name, value in given.items():
        known = recorded.get(name)
        merged[name] = _over(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return merged
