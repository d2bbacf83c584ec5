"""The etcd keys (contract), relative to the prefix `/leeward/`."""

LEADER = "leader"
BEAT = "beat"
GENERATION = "generation"
CONFIG_HEAD = "config/head"
CONFIG_VERSIONS = "config/versions/"
DECISIONS_HEAD = "decisions/head"
DECISIONS_MEMORY = "decisions/memory"
DECISIONS_LOG = "decisions/log/"
BLOBS = "blobs/"
OVERRIDES = "overrides/"
ROLLOUTS = "rollouts/"
DRILLS = "drills/"
DRILL_ACTIVE = "drills/active"
"""The id of the drill under way, bound to its runner's lease: at most one."""
DRILL_SCHEDULES = "drills/schedules/"
ALARMS = "alarms"
"""What is amiss and who has not been told of it: handed on from leader to leader."""
AUDIT = "audit/"
AUDIT_HEAD = "audited"
"""The number of the last audit entry. Every write of an operator compares and raises it, so that they
come one after another; a decision compares it, so that it rests on all of them."""


def log_entry(generation: int, seq: int) -> str:
    """`decisions/log/<seq>`; zero-padded so that etcd's order is the order of commits, and under its
    generation so that a raised generation never writes over an older entry."""
    return f"{DECISIONS_LOG}{generation:010d}.{seq:012d}"


def blob(sha256: str) -> str:
    """`blobs/<sha256>`."""
    return f"{BLOBS}{sha256}"


def config_version(n: int) -> str:
    """`config/versions/<n>`, zero-padded so that etcd's order is theirs."""
    return f"{CONFIG_VERSIONS}{n:012d}"


def override(name: str) -> str:
    """`overrides/<id>`."""
    return f"{OVERRIDES}{name}"


def rollout(name: str) -> str:
    """`rollouts/<id>`."""
    return f"{ROLLOUTS}{name}"


def drill(name: str) -> str:
    """`drills/<id>`."""
    return f"{DRILLS}{name}"


def drill_schedule(name: str) -> str:
    """`drills/schedules/<id>`."""
    return f"{DRILL_SCHEDULES}{name}"


def audit(n: int) -> str:
    """`audit/<n>`, zero-padded so that etcd's order is theirs."""
    return f"{AUDIT}{n:012d}"
