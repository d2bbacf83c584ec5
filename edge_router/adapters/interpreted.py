"""What of a request is otherwise where its target does not take it as it came: Gemini's calls, whose model stands in
the path, and calls of clients that speak another dialect than the target.

The wording is found when a target is chosen, not when it is sent: a target in whose dialect the request cannot be
said is passed over, which costs it nothing and is no attempt. A request that no target of its route can take is
answered 400, with the field that cannot be translated. From the answer's head on, `core.translation` carries over what
comes: the client sees its own dialect whoever answers, and the exchange judges by the target's.
"""

from abc import ABC, abstractmethod
from typing import Final

from edge_router.adapters.degrading import Degrading
from edge_router.core.answers import Refusal
from edge_router.core.attempts import Course, Judgement, judge
from edge_router.core.choose import Nobody
from edge_router.core.dialects.carrying import CarriedEvents, CarriedWhole
from edge_router.core.error_body import TOLD_STATUSES, About, Told
from edge_router.core.gemini_calls import gemini_wording
from edge_router.core.messages import translated_head, worded_request
from edge_router.core.recovery import Recovery
from edge_router.core.relay import Opaque, Relay, Withheld
from edge_router.core.table import Candidate
from edge_router.core.tokens import NONE
from edge_router.core.told import ToldError
from edge_router.core.translation import Translation, Untranslatable, translate
from edge_router.core.wire import ResponseHead
from shared.classify import Phase
from shared.vocabulary.terms import Dialect, Outcome

MAX_TRANSLATED_BYTES: Final = 4 * 1024 * 1024
"""Of a request's body: reading and writing it anew holds up everybody else for some 10 ms a MiB."""


class Interpreted(Degrading, ABC):
    """See the module. Where the body is spliced, all of these stay as they are here."""

    _phase: Phase
    _suffix = b""
    """Behind the target's base path."""
    _fields = b""
    _wording: bytes | None = None
    """The body for the target of this attempt; None where it is spliced."""
    _translation: Translation | None = None
    _carrier: Relay | None = None
    """What translates the answer of this attempt."""
    _unable: tuple[str, ...] = ()
    """Targets in whose dialect the request cannot be said."""
    _objection = ""
    """Why not."""

    @abstractmethod
    def _tried(self) -> list[str]:
        """Targets that this request need not be sent to any more."""

    @abstractmethod
    def _unwelcome(
        self, judgement: Judgement, head: ResponseHead, body: bytes, done: bool, error: Told
    ) -> None:
        """An answer that another target should replace."""

    @abstractmethod
    def _attended(self, recovery: Recovery, carrier: Relay | None = None) -> Relay: ...

    @abstractmethod
    def _fail(self, outcome: Outcome | None, error: str, now: float) -> None: ...

    # ------------------------------------------------------------ the request

    def _fit(self, candidate: Candidate, now: float) -> Candidate:
        """`candidate`, or the next one in whose dialect the request can be said, with its wording. Raises Nobody."""
        endpoint = self._endpoint
        while candidate.target.dialect is not endpoint.dialect:
            try:
                self._translate(candidate)
            except Untranslatable as error:
                self._objection = self._objection or str(error)
                self._unable += self._speakers(candidate.target.dialect)
                tried = [*self._tried(), candidate.target.id]
                candidate = self._gateway.chooser.another(self.route, tried, now, self._key())
            else:
                return candidate
        self._translation = None
        if candidate.target.spliced is endpoint.dialect:
            self._wording = None
        else:
            wording = gemini_wording(candidate.target, endpoint, self._head.query, self._body)
            self._suffix, self._wording = wording
            self._fields = self._head.forward
            self._note_path(candidate)
        return candidate

    def _translate(self, candidate: Candidate) -> None:
        body, asked = self._client_call()
        assert asked is not None, "plain routes have targets of one dialect"
        if len(body) > MAX_TRANSLATED_BYTES:
            raise Untranslatable(f"a body of more than {MAX_TRANSLATED_BYTES} bytes is not translated")
        try:
            translation = translate(self._endpoint.kind, body, asked, candidate.target)
        except RecursionError:
            raise Untranslatable("the body is nested too deeply") from None
        self._translation = translation
        self._suffix, self._wording = translation.suffix, translation.body
        self._fields = b"content-type: application/json\r\n" + translation.lines
        self._note_path(candidate)

    def _note_path(self, candidate: Candidate) -> None:
        self._paths = {**self._paths, candidate.target.id: self._suffix.partition(b"?")[0]}

    def _speakers(self, dialect: Dialect) -> tuple[str, ...]:
        """The route's targets of a dialect: what one of them cannot be asked, none can."""
        tiers = self.route.tiers
        everyone = [c.target for tier in tiers for c in (*tier.weighted, *tier.standby)]
        everyone += [candidate.target for candidate in self.route.last_resort]
        return tuple(target.id for target in everyone if target.dialect is dialect)

    def _worded_request(self, body: bytes, trace: bytes) -> list[bytes | memoryview]:
        prefix = self._lane.prefix(b"POST", self._suffix)
        return worded_request(prefix, self._fields, trace, self.request_id, body)

    # ------------------------------------------------------------ the answer

    def _answered_otherwise(
        self, translation: Translation, head: ResponseHead, body: bytes, done: bool
    ) -> None:
        """The head of an answer in another dialect than the client's."""
        if done:
            self._connection = None
        judgement = judge(
            head,
            translation.endpoint,
            streamed=self._streamed,
            credential=self._lane.authenticated,
        )
        self._judgement = judgement
        good = judgement.outcome is Outcome.OK
        self._response = translated_head(head, translation.content_type if good else b"application/json")
        if self.route.ladder is not None:
            self._watch = self._watching(judgement)
        self._phase = Phase.BODY
        if head.status in TOLD_STATUSES and not self._committed:
            self._relay = Withheld()
            self._take(self._relay.feed(body, done))
            return
        if judgement.course is not Course.PASS:
            self._unwelcome(judgement, self._response, body, done, Told(About.OTHER))
            return
        if self._committed and not good:
            self._drop_attempt()  # no part of the stream that has begun
            self._fail(None, "http_response_status", self._gateway.monotonic())
            return
        relay = self._carrying(translation) if good else self._unread(head)
        self._relay = relay
        self._take(relay.feed(body, done))

    def _carrying(self, translation: Translation) -> Relay:
        """How a good answer goes to the client."""
        self._carrier = carrier = translation.relay(int(self._gateway.clock.now().timestamp()))
        return carrier if self._recovery is None else self._attended(self._recovery, carrier)

    def _unread(self, head: ResponseHead) -> Relay:
        """What hands on an answer that promises nothing: an error, most likely."""
        translation = self._translation
        return Opaque() if translation is None else ToldError(translation, head.status)

    def _won(self, now: float) -> None:
        if self._translation is not None:
            # The target's count, which the client need not have asked for.
            carrier = self._carrier
            if isinstance(carrier, CarriedWhole | CarriedEvents) and carrier.tokens is not NONE:
                self._tokens = carrier.tokens
                if self._recovery is not None:
                    self._recovery.tokens = carrier.tokens
        super()._won(now)

    def _nobody(self, nobody: Nobody) -> None:
        """There is no target to ask, or none in whose dialect the request can be said."""
        lighter = self.route.lighter
        if lighter is not None and (nobody.full or nobody.shed) and self._step_down(lighter):
            return
        if self._objection and not (nobody.full or nobody.shed or self._failures):
            self._refuse(Refusal.UNTRANSLATABLE, self._objection)
        elif nobody.shed:
            self._refuse(Refusal.SHED, "this share of the traffic is turned away until there is capacity")
        elif nobody.full:
            self._refuse(Refusal.FULL, "every target of this route is at its capacity")
        else:
            self._refuse(Refusal.NO_TARGET, "this route has no target at the moment")
