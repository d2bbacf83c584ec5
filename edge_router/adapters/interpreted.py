"""What of a request is otherwise where its target does not take it as it came: Gemini's calls, whose model stands in
the path, and calls in another dialect than the target's.

The wording is found when a target is chosen, not when it is sent: a target in whose dialect the request cannot be
said is passed over, which costs it nothing and is no attempt. A request that no target of its route can take is
answered 400, with the field that cannot be translated.
"""

from abc import ABC

from edge_router.adapters.delivery import Delivery
from edge_router.core.gemini_calls import Wording, gemini_wording
from edge_router.core.messages import worded_request
from edge_router.core.table import Candidate
from shared.vocabulary.terms import Dialect


class Interpreted(Delivery, ABC):
    """See the module. `_wording` is None where the body is spliced: then nothing here is asked."""

    _wording: Wording | None = None

    def _fit(self, candidate: Candidate, now: float) -> Candidate:
        """`candidate`, or another, with its wording set. Raises Nobody."""
        target = candidate.target
        if target.spliced is self._endpoint.dialect:
            self._wording = None
        elif target.dialect is self._endpoint.dialect:
            assert target.dialect is Dialect.GEMINI, "every other dialect is spliced"
            self._wording = gemini_wording(target, self._endpoint, self._head.query, self._body)
        return candidate

    def _worded_request(self, trace: bytes) -> list[bytes | memoryview]:
        wording = self._wording
        assert wording is not None, "asked only then"
        prefix = self._lane.prefix(b"POST", wording.suffix)
        return worded_request(prefix, self._head.forward, trace, self.request_id, wording.body)
