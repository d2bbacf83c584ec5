"""Streams that a route does not just let break: resumed on another target, or held until they are whole.

    resume    What has reached the client stays as it is; another target brings the rest, in one of two ways:
              continuation    the target is given the answer's beginning and goes on from there, where it can
                              (`prefill`) and the call allows it. First choice: it costs only input tokens, begins
                              at once, and fits whatever the model draws next (decision 16)
              replay          the call as it was; as long as the new answer repeats the old one character for
                              character it is skipped, then it is passed on, a delta that lies across the seam cut
                              in two. An answer that differs is never mixed in: the attempt counts as diverged
              A target that was given a beginning and starts over all the same is noticed by its first
              characters, and becomes a replay.
    hold      Nothing goes out before the end, to `held.HELD_BYTES`; longer ones are passed on from there.
    usage     An event with usage that the client did not ask for is read and kept back.

Streams of routes that ask for none of this never come here. Cost: one more decode per event, about 3 us.
"""

from enum import StrEnum
from itertools import takewhile
from typing import Final

import msgspec

from edge_router.core.body import Asked
from edge_router.core.decoding import UNREADABLE
from edge_router.core.endpoints import Kind
from edge_router.core.held import Held
from edge_router.core.relay import Events, Problem, Relay, Step, Verdict
from edge_router.core.rewrite import asking_usage, continued
from edge_router.core.sse import EVENT_END, LINE_END, MAX_EVENT_BYTES
from edge_router.core.table import StreamRules
from edge_router.core.tokens import NONE, Tokens, tokens_of
from edge_router.core.transcript import (
    Json,
    Part,
    Transcript,
    event_of,
    fields_of,
    identity_of,
    only_usage,
    read,
)
from shared.vocabulary.terms import StreamRecovery

DIVERGED: Final = "stream_diverged"
_DOUBT: Final = 32
"""Characters of a continuation that are looked at first: a model that repeats as many from the beginning of
the answer is not going on but starting over."""
_DONE: Final = b"[DONE]"
_EVENT: Final = msgspec.json.Decoder(Json)
_HOLD: Final = Step(b"", Verdict.HOLD)


class How(StrEnum):
    """How another target comes to go on with a stream."""

    CONTINUATION = "continuation"
    REPLAY = "replay"


class Recovery:
    """What one request's stream needs to be recovered; `how` is None until it is. `tokens`: as told by usage
    that was kept back."""

    __slots__ = (
        "_asked",
        "_body",
        "_kind",
        "_rules",
        "caught_up",
        "hides_usage",
        "how",
        "tokens",
        "transcript",
    )

    def __init__(self, kind: Kind, rules: StreamRules, body: bytes, asked: Asked) -> None:
        self._kind = kind
        self._rules = rules
        self._body = body
        self._asked = asked
        self.how: How | None = None
        self.caught_up = False
        """Another target's first bytes are about to go out."""
        self.tokens: Tokens = NONE
        self.transcript: Transcript | None = None
        self.hides_usage = False
        if rules.usage:
            asking = asking_usage(kind, body, asked)
            if asking is not None:
                self._body, self._asked = asking
                self.hides_usage = True

    @property
    def request(self) -> tuple[bytes, Asked]:
        """The call as it is to be sent at first."""
        return self._body, self._asked

    @property
    def resumes(self) -> bool:
        """Whether a broken stream is to be resumed."""
        return self._rules.recovery is StreamRecovery.RESUME

    @property
    def impossible(self) -> str:
        """Why the stream cannot be resumed as it now stands; empty when it can."""
        transcript = self.transcript
        return "nothing of it was kept" if transcript is None else transcript.inexact

    def first(self, carrier: Relay | None = None) -> Relay:
        """How the answer is handed on while nothing of one has gone out. `carrier` takes the target's content first
        and gives the client's dialect, where they differ."""
        if carrier is not None and not self.resumes:
            # It was asked as its client wrote it, so there is no usage to keep back.
            return Held(carrier) if self._rules.recovery is StreamRecovery.HOLD else carrier
        choices = self._asked.choices
        if self.resumes:
            self.transcript = Transcript(self._kind)
            if choices > 1:
                self.transcript.give_up("several choices were asked for")
        attended = Attended(self._kind, choices=choices, recovery=self, carrier=carrier)
        return Held(attended) if self._rules.recovery is StreamRecovery.HOLD else attended

    def again(self, *, prefill: bool) -> tuple[bytes, Asked]:
        """The call for another target, and with it how this one is to go on."""
        assert self.transcript is not None
        text = self.transcript.text.rstrip()
        self.how = How.REPLAY
        if prefill and text and not self.transcript.closed:
            call = continued(self._kind, self._body, self._asked, text)
            if call is not None:
                self.how = How.CONTINUATION
                return call
        return self._body, self._asked

    def forget(self) -> None:
        """The call is too large to be kept: its one attempt is under way."""
        self._body = b""

    def next(self, target: str, attempts: int, carrier: Relay | None = None) -> Relay:
        """How the answer of another target is handed on, number `attempts` of this request; `carrier` as of
        `first`."""
        return Resumed(
            self._kind,
            choices=self._asked.choices,
            recovery=self,
            carrier=carrier,
            target=target,
            attempts=attempts,
        )


class Attended(Events):
    """A stream that is read event by event, and noted as it goes out."""

    __slots__ = ("_begun", "_carrier", "_recovery")

    def __init__(self, kind: Kind, *, choices: int, recovery: Recovery, carrier: Relay | None = None) -> None:
        super().__init__(kind, choices=choices)
        self._recovery = recovery
        self._carrier = carrier
        self._begun = b""

    def feed(self, content: bytes, done: bool) -> Step:
        if self._carrier is not None:
            return self._carried(self._carrier.feed(content, done), self._carrier)
        return self._read(content, done)

    def cut(self, problem: Problem) -> Step:
        if self._carrier is not None:
            return self._carried(self._carrier.cut(problem), self._carrier)
        return super().cut(problem)

    def _carried(self, carried: Step, carrier: Relay) -> Step:
        """What becomes of a step of the carrier's: its content is read as a target's would be, but whether the
        stream is whole or broken is known from the target's own."""
        step = self._read(carried.content, carried.verdict is Verdict.COMPLETE)
        if carried.verdict is not Verdict.BROKEN or step.verdict is Verdict.BROKEN:
            return step
        assert carrier.problem is not None
        # An error event of the target's has been kept back: the stream is to go on.
        self.problem = carrier.problem._replace(told=False)
        return Step(step.content, Verdict.BROKEN)

    def _read(self, content: bytes, done: bool) -> Step:
        """What may go on of content in the client's dialect."""
        passed = self._passed(content)
        if self.problem is None:
            self.problem = self._fault(done)
            if self.problem is not None and self._recovery.resumes:
                self.problem = self.problem._replace(told=False)
        return self._onward(passed, done)

    def _passed(self, content: bytes) -> bytes:
        """What may go on of the events that are whole now."""
        reader = self._reader
        passed = []
        for raw in self._events(content):
            event = LINE_END.sub(b"\n", raw) if b"\r" in raw else raw
            reader.feed(event)
            if reader.fault or (reader.error and self._recovery.resumes):
                break
            passed.append(self._event(raw, *fields_of(event)))
            if self.problem is not None or reader.error:
                break
        return b"".join(passed)

    def _events(self, content: bytes) -> list[bytes]:
        """The events that are whole now, with their ends."""
        if self._begun:
            content = self._begun + content
        events = []
        start = 0
        if b"\r" in content:
            # A CR at the very end may be half of a line end.
            for found in EVENT_END.finditer(content, 0, len(content) - content.endswith(b"\r")):
                events.append(content[start : found.end()])
                start = found.end()
        else:
            while (end := content.find(b"\n\n", start)) >= 0:
                events.append(content[start : end + 2])
                start = end + 2
        self._begun = content[start:]
        if len(self._begun) > MAX_EVENT_BYTES:
            self._reader.fault = f"an event of more than {MAX_EVENT_BYTES} bytes"
            self._begun = b""
        return events

    def _event(self, raw: bytes, name: str, data: bytes) -> bytes:
        """What goes on in an event's place. May set `problem`."""
        if not data or data == _DONE:
            return raw
        transcript = self._recovery.transcript
        try:
            event = _EVENT.decode(data)
            if self._hides(event, data):
                return b""
            if transcript is not None:
                transcript.note(event, read(self._kind, event, name))
        except UNREADABLE:
            if transcript is not None:
                transcript.give_up("an event that cannot be read had come")
        return raw

    def _hides(self, event: Json, data: bytes) -> bool:
        recovery = self._recovery
        if recovery.hides_usage and only_usage(event):
            recovery.tokens = tokens_of(data)
            return True
        return False


class Resumed(Attended):
    """The answer of another target, made to follow on what the client has."""

    __slots__ = (
        "_along",
        "_at",
        "_attempts",
        "_behind",
        "_doubt",
        "_held_text",
        "_lenient",
        "_names",
        "_said",
        "_target",
        "_template",
        "_told",
        "_transcript",
    )

    def __init__(
        self,
        kind: Kind,
        *,
        choices: int,
        recovery: Recovery,
        carrier: Relay | None = None,
        target: str,
        attempts: int,
    ) -> None:
        super().__init__(kind, choices=choices, recovery=recovery, carrier=carrier)
        assert recovery.transcript is not None
        self._transcript = recovery.transcript
        self._target = target
        self._attempts = attempts
        self._names: Json = {}
        """The identity of this target's own stream."""
        self._template: tuple[str, bytes] = ("", b"")
        """Its last event with text."""
        self._said = self._told = False
        text = self._transcript.text
        self._at = 0
        self._held_text = ""
        self._lenient = recovery.how is How.CONTINUATION
        # A continuation was asked for without the white space at the end: it may repeat it, and need not.
        self._behind = text[len(text.rstrip()) :] if self._lenient else text
        self._doubt = text[:_DOUBT] if self._lenient and len(text) >= _DOUBT else ""
        self._along = not self._behind and not self._doubt
        self._passing = True  # whatever comes, the client has something of an answer

    @property
    def along(self) -> bool:
        """Whether it has caught up with what the client has."""
        return self._along

    def _read(self, content: bytes, done: bool) -> Step:
        step = super()._read(content, done)
        if step.verdict is Verdict.PASS:
            if step.content and not self._told:
                self._told = True
                return Step(step.content, Verdict.RESUMED)
            if not self._reader.substance:
                return _HOLD
        return step

    def _event(self, raw: bytes, name: str, data: bytes) -> bytes:
        if not data or data == _DONE:
            if self._along or not data:
                return raw if self._along else b""
            return self._diverges("it ended before it had caught up")
        try:
            return self._follows(name, data)
        except UNREADABLE:
            return self._diverges("it has an event that cannot be read")

    def _follows(self, name: str, data: bytes) -> bytes:
        event = _EVENT.decode(data)
        if self._hides(event, data):
            return b""
        self._names |= identity_of(self._kind, event)
        part = read(self._kind, event, name)
        if self._along:
            return self._pass(event, name, part, part.text)
        return self._catch_up(event, name, data, part)

    def _catch_up(self, event: Json, name: str, data: bytes, part: Part) -> bytes:
        if part.inexact:
            return self._diverges(f"it has {part.inexact}")
        if part.text:
            rest = self._compared(part.text)
            if rest is not None:
                self._along = True
                return self._pass(event, name, part, rest)
            if self.problem is not None:
                return b""
            self._template = (name, data)
        if not part.mark or part.mark in self._transcript.marks:
            return b""
        if not self._lenient:
            return self._diverges("it is shorter than what was already sent")
        # All that a continuation had left to say was short enough to be in doubt.
        self._along = True
        return self._withheld() + self._pass(event, name, part._replace(text=""), "")

    def _compared(self, text: str) -> str | None:
        """What `text` adds to what the client has; None when nothing yet, or when it differs."""
        if self._doubt:
            self._held_text += text
            if len(self._held_text) < len(self._doubt) and self._doubt.startswith(self._held_text):
                return None
            text, doubt = self._held_text, self._doubt
            self._held_text = self._doubt = ""
            if text.startswith(doubt):
                self._lenient = False
                self._behind = self._transcript.text
                self._recovery.how = How.REPLAY
        left = len(self._behind) - self._at
        if len(text) < left:
            if self._behind.startswith(text, self._at):
                self._at += len(text)
                return None
        elif text.startswith(self._behind[self._at :]):
            return text[left:]
        if self._lenient:
            same = zip(text, self._behind[self._at :], strict=False)
            return text[sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], same)) :]
        self._diverges("its answer differs from what was already sent")
        return None

    def _withheld(self) -> bytes:
        """An event with the text that was held in doubt."""
        text, self._held_text = self._held_text, ""
        if not text:
            return b""
        name, data = self._template
        event = _EVENT.decode(data)
        return self._pass(event, name, Part(text), text)

    def _pass(self, event: Json, name: str, part: Part, text: str) -> bytes:
        """The event as one of the client's stream, with `text` in place of its own."""
        transcript = self._transcript
        if text and transcript.closed:
            return self._diverges("it goes on where the text had ended")
        if part.mark in transcript.marks and not text:
            return b""
        if part.text and not text and not part.mark:
            return b""  # all of it lies before the seam
        adopted = transcript.adopt(event, text if part.text else None, self._names)
        if adopted is None:
            return b""
        transcript.note(adopted, part._replace(text=text))
        said = event_of(name, adopted)
        if self._said:
            return said
        self._said = self._recovery.caught_up = True
        return b": leeward: resumed by %b, %b, attempt %d\n\n%b" % (
            self._target.encode(),
            (self._recovery.how or How.REPLAY).encode(),
            self._attempts,
            said,
        )

    def _diverges(self, why: str) -> bytes:
        self.problem = Problem(None, DIVERGED, why)
        return b""
