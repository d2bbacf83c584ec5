"""The public HTTP of control planes and edges, as the command line and the drills read it.

Any replica answers any question, so a question goes to each in turn until one answers. Every call
has a deadline; what cannot be reached is None or Unreachable, never a traceback.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import httpx2
from pydantic import BaseModel

from ops import presenting
from ops.errors import Bad, OpsError, Unreachable, Usage
from shared.vocabulary.base import NO_VERSION, Message, Version
from shared.vocabulary.decision import Decision
from shared.vocabulary.drill import Drill, DrillEnd, DrillRequest, DrillSchedule, DrillSpec, RunnerWord
from shared.vocabulary.drill_list import DrillCatalogue, DrillList, ScheduleOrder
from shared.vocabulary.status import LeaderStatus
from shared.vocabulary.terms import EdgeMode
from shared.vocabulary.view import HealthView

Heard = TypeVar("Heard", bound=BaseModel)
TIMEOUT_S = 2.0
CHANGE_TIMEOUT_S = 15.0
"""A replica tries an operator's write several times when others write too."""
MAX_ANSWER_BYTES = 64 * 1024 * 1024


def open_client(*, timeout_s: float = TIMEOUT_S) -> httpx2.AsyncClient:
    """A client for a command's questions. It goes straight to its addresses: no proxy, no redirects.
    Raises Usage for a `--ca-file` that holds no certificates."""
    return httpx2.AsyncClient(
        timeout=timeout_s, trust_env=False, follow_redirects=False, verify=presenting.trust()
    )


@dataclass(frozen=True, slots=True)
class EdgeState:
    """What an edge says of itself on its admin listener."""

    id: str
    region: str
    mode: EdgeMode
    decision: Version
    """The head it serves."""
    beat_age_s: float | None
    applied_at: datetime | None = None
    """When it began to serve `decision`."""
    config_version: int | None = None

    @property
    def confirmed(self) -> bool:
        """Whether it serves a decision, and a Beat confirmed it."""
        return self.mode is EdgeMode.FRESH and self.decision > NO_VERSION


async def edge_state(client: httpx2.AsyncClient, admin_url: str) -> EdgeState | None:
    """`GET /status` of an edge's admin listener; None when it does not answer."""
    raw = await get_json(client, f"{admin_url}/status")
    if not isinstance(raw, dict):
        return None
    try:
        return EdgeState(
            id=str(raw["id"]),
            region=str(raw["region"]),
            mode=EdgeMode(raw["mode"]),
            decision=Version.parse(raw["decision"]),
            beat_age_s=raw.get("beat_age_s"),
            applied_at=datetime.fromisoformat(raw["applied_at"]) if raw.get("applied_at") else None,
            config_version=raw.get("config_version"),
        )
    except (KeyError, ValueError, TypeError):
        return None


class ControlPlanes:
    """The replicas of one fleet, asked in turn. Remembers who answered last and asks it first. Presents
    the command's token to `urls`, and to nobody that they name."""

    def __init__(self, client: httpx2.AsyncClient, urls: Sequence[str]) -> None:
        self._client = client
        self._urls = list(urls)
        self._presented = presenting.headers()

    @property
    def urls(self) -> tuple[str, ...]:
        """Of all replicas known, the one that answered last first."""
        return tuple(self._urls)

    async def leader_first(self) -> "ControlPlanes":
        """The same replicas, the leader asked first where one is known; where a token is presented, only
        one that we were pointed at."""
        named = (await self.get("/v1/leader")).get("leader") or {}
        url = str(named.get("url") or "").rstrip("/")
        if self._presented and url not in self._urls:
            return self
        return ControlPlanes(self._client, [url, *(known for known in self._urls if known != url)][not url :])

    async def get(self, path: str) -> Any:
        """The JSON at `path` from the first replica that answers.

        Raises Unreachable when none does, Refused with the replica's own words when it says no.
        """
        return self.judged(await self._ask(path))

    async def text(self, path: str) -> str:
        """The text at `path`, which is no JSON. Raises as `get`."""
        answer = await self._ask(path)
        return answer.text if answer.is_success else str(self.judged(answer))

    async def get_tagged(self, path: str) -> tuple[Any, str]:
        """As `get`, and the answer's entity tag."""
        answer = await self._ask(path)
        return self.judged(answer), answer.headers.get("etag", "")

    async def change(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = CHANGE_TIMEOUT_S,
    ) -> Any:
        """Have the first replica that can be reached change something; the JSON it answers, or None.

        `body` is sent as JSON, or as it is where it is bytes. What was sent is not sent again: when the answer does not come, the change may have been made.
        Raises Unreachable, Refused.
        """
        for url in tuple(self._urls):
            try:
                answer = await self._client.request(
                    method,
                    url + path,
                    content=_content(body),
                    headers={"content-type": "application/json", **(headers or {}), **self._presented},
                    timeout=timeout_s,
                )
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                continue
            except httpx2.HTTPError as error:
                raise Unreachable(
                    f"{url} did not answer ({error!r}): look whether it was done before you try again"
                ) from None
            return self.judged(answer) if answer.content or not answer.is_success else None
        raise Unreachable(f"no control plane answers at {', '.join(self._urls)}")

    async def _ask(self, path: str) -> httpx2.Response:
        excuse: httpx2.Response | None = None
        for url in tuple(self._urls):
            try:
                answer = await self._client.get(url + path, headers=self._presented)
            except httpx2.HTTPError:
                continue
            if answer.status_code in (502, 503, 504):
                excuse = answer
                continue
            self._urls.sort(key=lambda known, answered=url: known != answered)  # type: ignore[misc]
            return answer
        if excuse is not None:
            raise Unreachable(f"no control plane can answer: {_said(excuse)}")
        raise Unreachable(f"no control plane answers at {', '.join(self._urls)}")

    async def health(self) -> HealthView:
        """`GET /v1/health`."""
        return HealthView.model_validate(await self.get("/v1/health"))

    async def leader(self) -> LeaderStatus | None:
        """`GET /v1/leader`; None while nobody leads."""
        named = (await self.get("/v1/leader")).get("leader")
        return LeaderStatus.model_validate(named) if named else None

    async def in_force(self) -> tuple[Version, Mapping[str, Decision]]:
        """`GET /v1/decisions/current`: the head's version, and each live route's document."""
        answer = await self.get("/v1/decisions/current")
        documents = [Decision.model_validate(document) for document in answer["documents"]]
        head = answer["head"]
        version = Version(head["generation"], head["seq"]) if head else NO_VERSION
        return version, {document.route: document for document in documents}

    @staticmethod
    def judged(answer: httpx2.Response) -> Any:
        """The JSON of an answer that was read. Raises Bad, and Refused with the replica's own words."""
        try:
            content = answer.json()
        except ValueError:
            raise Bad(f"{answer.url} answered {answer.status_code} and no JSON") from None
        if answer.is_success:
            return content
        said = content.get("detail") or content.get("title") if isinstance(content, dict) else None
        if answer.status_code == 401:
            said = f"{said} (by {presenting.FROM_ENV} or --token-file)"
        faults = content.get("faults") or () if isinstance(content, dict) else ()
        raise Refused(
            answer.status_code,
            f"{said or content}",
            faults=[f"{fault.get('where')}: {fault.get('what')}" for fault in faults],
        )


class DrillRegister:
    """The control plane's record of drills (`/v1/drills`), over any replica. Every call raises
    Unreachable and Refused as `ControlPlanes` does; what was written by a call whose answer was lost is
    found again by making the same call."""

    def __init__(self, planes: ControlPlanes) -> None:
        self._planes = planes

    async def request(self, request: DrillRequest) -> Drill:
        """Ask for a drill; with `runner` it is claimed at once. Refused with 409 when it may not begin."""
        return _heard(Drill, await self._write("POST", "/v1/drills", request))

    async def claim(self, drill: str, runner: str) -> Drill:
        """Take one that is DUE. Refused with 409 when somebody else has it, or its time is over."""
        body = {"runner": runner}
        return _heard(Drill, await self._planes.change("POST", f"/v1/drills/{drill}/claim", body))

    async def progress(self, drill: str, word: RunnerWord) -> Drill:
        """Tell how it goes, and renew the claim; `stop` of the answer tells an abort. Refused with 404
        when its record is gone, with 409 when the claim was lost to another drill: then it must end."""
        return _heard(Drill, await self._write("PUT", f"/v1/drills/{drill}/progress", word))

    async def finish(self, drill: str, end: DrillEnd) -> Drill:
        """Put its report on record. Refused with 413 when the report is too large to keep."""
        return _heard(Drill, await self._write("POST", f"/v1/drills/{drill}/finish", end))

    async def abort(self, drill: str, *, author: str, reason: str) -> Drill:
        """End it; of one that runs, its runner does, a moment later."""
        body = {"author": author, "reason": reason}
        return _heard(Drill, await self._planes.change("POST", f"/v1/drills/{drill}/abort", body))

    async def all(self) -> DrillList:
        """Everything in brief, the newest first, with what may begin now and the schedules."""
        return _heard(DrillList, await self._planes.get("/v1/drills"))

    async def one(self, drill: str) -> Drill:
        """A whole record."""
        return _heard(Drill, await self._planes.get(f"/v1/drills/{drill}"))

    async def page(self, drill: str) -> str:
        """Its report as HTML. Refused with 404 when it has none."""
        return await self._planes.text(f"/v1/drills/{drill}/report")

    async def due(self) -> Sequence[Drill]:
        """Those that wait for a runner, oldest first."""
        briefs = (await self.all()).drills
        return [await self.one(brief.id) for brief in reversed(briefs) if brief.state == "DUE"]

    async def catalogue(self) -> Sequence[DrillSpec]:
        """The built-in drills, by name."""
        return _heard(DrillCatalogue, await self._planes.get("/v1/drills/catalogue")).drills

    async def schedule(self, order: ScheduleOrder) -> DrillSchedule:
        """Have a drill come due by a cron expression."""
        return _heard(DrillSchedule, await self._write("POST", "/v1/drills/schedules", order))

    async def unschedule(self, schedule: str, *, author: str, reason: str) -> None:
        """Drop a schedule."""
        body = {"author": author, "reason": reason}
        await self._planes.change("DELETE", f"/v1/drills/schedules/{schedule}", body)

    async def _write(self, method: str, path: str, body: Message) -> Any:
        return await self._planes.change(method, path, body.model_dump(mode="json"))


class Refused(OpsError):
    """The control plane understood and said no."""

    exit_code = 1

    def __init__(self, status: int, said: str, *, faults: Sequence[str] = ()) -> None:
        super().__init__("\n".join((said, *faults)))
        self.status = status
        self.exit_code = Usage.exit_code if status == 422 else Bad.exit_code
        self.faults = tuple(faults)
        """What was wrong with each part of the request, with its place."""


def _heard(kind: type[Heard], answer: Any) -> Heard:
    """The answer of a replica that may be newer than this: what it says besides is let be."""
    return kind.model_validate(answer, extra="ignore")


def _content(body: Any) -> bytes | None:
    if body is None or isinstance(body, bytes):
        return body
    return json.dumps(body, ensure_ascii=False).encode()


def _said(answer: httpx2.Response) -> str:
    """A problem's own words, or the status."""
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"{answer.url} answered {answer.status_code}"


async def get_json(
    client: httpx2.AsyncClient, url: str, *, headers: Mapping[str, str] | None = None
) -> Any | None:
    """The JSON at `url`; None when there is no answer, no success, or no JSON."""
    try:
        answer = await client.get(url, headers=headers)
        return answer.json() if answer.is_success else None
    except (httpx2.HTTPError, ValueError):
        return None
