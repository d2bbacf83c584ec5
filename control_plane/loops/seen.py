"""The greatest version anybody reports to hold: what tells a leader that its own etcd went back in time.

etcd restored from an older snapshot, or emptied, would let a leader write versions that edges have
long passed and must refuse. So acks and Beats are compared with the head, and whoever is ahead of it
makes the leader raise the generation (DESIGN, Generation).
"""

from control_plane.ports import Implausible
from shared.vocabulary.base import NO_VERSION, Version
from shared.vocabulary.decision import Ack, Beat

MAX_GENERATION = 10**9
"""Greater ones are no history of ours: refused as poison, for raising above them would never end."""

MAX_CONFIG_VERSION = 10**9


def check_ack(ack: Ack) -> None:
    """Raises Implausible when it claims a history that cannot be."""
    if max(ack.generation, ack.seen_generation, ack.beat_generation) > MAX_GENERATION:
        raise Implausible(f"no generation is above {MAX_GENERATION}")


class Seen:
    """Greatest version and configuration version reported since this replica started."""

    def __init__(self) -> None:
        self.version = NO_VERSION
        self.config_version = 0
        self.epoch = (0, 0)
        """Generation, and epoch within it, of the latest term anybody heard a Beat of."""
        self.reporter = ""
        self._sha: str | None = None

    def ack(self, ack: Ack) -> None:
        """Take what an edge holds, and the greatest it ever held."""
        self._note(ack.version, ack.head_sha, ack.edge)
        self._note(Version(ack.seen_generation, ack.seen_seq), None, ack.edge)
        self.epoch = max(self.epoch, (ack.beat_generation, ack.beat_epoch))
        self.config(ack.config_version)

    def beat(self, beat: Beat) -> None:
        """Take what a leader once stated."""
        self._note(beat.head.version, beat.head_sha, beat.holder)
        self.epoch = max(self.epoch, (beat.generation, beat.epoch))
        self.config(beat.config_version)

    def config(self, version: int) -> None:
        """Take a configuration version that somebody works by."""
        if self.config_version < version <= MAX_CONFIG_VERSION:
            self.config_version = version

    def ahead(self, base: Version, sha: str | None) -> bool:
        """Whether somebody holds what cannot come from the history of `base`: a greater version, or
        the same with another content."""
        if self.version != base:
            return self.version > base
        return base != NO_VERSION and self._sha is not None and sha is not None and self._sha != sha

    def outlived(self, generation: int, epoch: int) -> bool:
        """Whether Beats of a later term of this generation were heard than that of `epoch`: etcd's
        revisions went back, and edges would take this term's Beats for old ones."""
        return self.epoch[0] == generation and self.epoch[1] > epoch

    def _note(self, version: Version, sha: str | None, reporter: str) -> None:
        if version > self.version:
            self.version, self._sha, self.reporter = version, sha, reporter
        elif version == self.version and sha is not None:
            self._sha, self.reporter = sha, reporter
