"""How old the leader's last word is, and so in which mode an edge stands.

FRESH does not mean "a Beat came" but "a Beat came that states what this edge serves": an edge that
hears a leader state a head which it lacks, or had to refuse, is told every two seconds that it is
out of date, and calls itself STALE once nothing has confirmed its own head for `fresh_s`. STATIC is
about the leader's silence alone, because it lets the edge second-guess automatic exclusions: an edge
that still hears a leader is STALE, never STATIC.

Ages count from the receipt of a *new* Beat (greater generation, epoch, beat), by the monotonic clock.
A Beat out of a stream's opening snapshot says what was in force, but not when: it may have lain in
the store for hours, so it orders later Beats and makes nothing fresh.
"""

from dataclasses import dataclass, field

from shared.vocabulary.terms import EdgeMode

BEHIND_AFTER_S = 5.0
"""A Beat sent before a commit may arrive after it; only a leader that keeps stating an older head is
behind."""

Order = tuple[int, int, int]
"""Generation, epoch and number of a Beat."""


@dataclass(slots=True)
class Freshness:
    """Receipt times of Beats. All times are monotonic seconds given by the caller."""

    fresh_s: float
    static_s: float
    started_at: float
    _confirmed: Order | None = field(default=None, init=False)
    _confirmed_at: float | None = field(default=None, init=False)
    _heard: Order | None = field(default=None, init=False)
    _heard_at: float | None = field(default=None, init=False)
    _behind_since: float | None = field(default=None, init=False)

    @property
    def confirmed(self) -> Order:
        """Of the greatest Beat that confirmed this edge; zeroes before the first."""
        return self._confirmed or (0, 0, 0)

    def mode(self, now: float) -> EdgeMode:
        """At `now`."""
        if self._confirmed_at is not None and now - self._confirmed_at <= self.fresh_s:
            return EdgeMode.FRESH
        heard_at = self.started_at if self._heard_at is None else self._heard_at
        return EdgeMode.STATIC if now - heard_at > self.static_s else EdgeMode.STALE

    def beat_age_s(self, now: float) -> float | None:
        """Since the last new live Beat, whatever it stated; None before the first."""
        return None if self._heard_at is None else now - self._heard_at

    def is_new(self, order: Order) -> bool:
        """Greater than any Beat that confirmed this edge, and not the one heard last.

        Compared with confirming Beats only, so that one stray Beat of an enormous order cannot make
        all later ones look old.
        """
        return (self._confirmed is None or order > self._confirmed) and order != self._heard

    def heard(self, order: Order, now: float) -> None:
        """A new live Beat came."""
        self._heard = order
        self._heard_at = now

    def confirm(self, order: Order, at: float | None) -> None:
        """A new Beat states what is served: received live at `at`, or None out of a snapshot."""
        self._confirmed = order if self._confirmed is None else max(self._confirmed, order)
        if at is not None:
            self._confirmed_at = at
            self._behind_since = None

    def behind(self, now: float, *, older: bool) -> bool:
        """Whether the leader has kept stating heads older than what is served; `older` is whether
        its Beat of this moment does."""
        if not older:
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = now
        return self._behind_since is not None and now - self._behind_since >= BEHIND_AFTER_S
