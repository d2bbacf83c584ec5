"""The etcd keys (contract), relative to the prefix `/leeward/`."""

LEADER = "leader"
BEAT = "beat"
GENERATION = "generation"
CONFIG_HEAD = "config/head"
DECISIONS_HEAD = "decisions/head"
DECISIONS_LOG = "decisions/log/"
BLOBS = "blobs/"


def log_entry(generation: int, seq: int) -> str:
    """`decisions/log/<seq>`; zero-padded so that etcd's order is the order of commits, and under its
    generation so that a raised generation never writes over an older entry."""
    return f"{DECISIONS_LOG}{generation:010d}.{seq:012d}"


def blob(sha256: str) -> str:
    """`blobs/<sha256>`."""
    return f"{BLOBS}{sha256}"
