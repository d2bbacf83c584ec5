"""Backups as files: fetched from a control plane, proven before they are kept or sent, and put back."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx2

from control_plane.core.backup import Backup, Damaged, chained, decode
from ops import presenting
from ops.client import ControlPlanes, open_client
from ops.errors import Bad, Unreachable, Usage

MEDIA_TYPE = "application/x-ndjson"
TIMEOUT_S = 120.0
MAX_BYTES = 256 * 1024 * 1024


async def fetch(urls: Sequence[str], since: str | None) -> bytes:
    """The bytes of a backup, proven whole, from the first control plane that answers. Raises
    Unreachable, Refused, Bad."""
    path = "/v1/backup" + (f"?{urlencode({'since': since})}" if since else "")
    async with open_client(timeout_s=TIMEOUT_S) as client:
        for url in urls:
            try:
                async with client.stream("GET", url + path, headers=presenting.headers()) as answer:
                    if not answer.is_success:
                        await answer.aread()
                        ControlPlanes.judged(answer)
                    raw = await _read(answer)
            except httpx2.ConnectError:
                continue
            except httpx2.HTTPError as error:
                raise Unreachable(f"{url} did not send all of it: {error!r}") from None
            _proven(raw, url)
            return raw
    raise Unreachable(f"no control plane answers at {', '.join(urls)}")


async def put_back(
    urls: Sequence[str], raw: bytes, *, author: str, reason: str, forced: bool
) -> dict[str, Any]:
    """Have a control plane restore it. Raises Unreachable, Refused."""
    query = urlencode({"author": author, "reason": reason, "forced": str(forced).lower()})
    async with open_client(timeout_s=TIMEOUT_S) as client:
        answer: dict[str, Any] = await ControlPlanes(client, urls).change(
            "POST",
            f"/v1/restore?{query}",
            raw,
            headers={"content-type": MEDIA_TYPE},
            timeout_s=TIMEOUT_S,
        )
    return answer


def write(file: Path, raw: bytes) -> None:
    """Keep it, readable by its owner alone; whole or not at all. Raises OSError."""
    scratch = file.with_name(f".{file.name}.part")
    scratch.touch(mode=0o600)
    with scratch.open("wb") as out:
        out.write(raw)
        out.flush()
        os.fsync(out.fileno())
    scratch.rename(file)


def load(file: Path) -> bytes:
    """What is in the file. Raises Usage when it cannot be read."""
    try:
        with file.open("rb") as content:
            raw = content.read(MAX_BYTES + 1)
    except OSError as error:
        raise Usage(f"{file}: {error.strerror or error}") from None
    if len(raw) > MAX_BYTES:
        raise Usage(f"{file}: is larger than {MAX_BYTES >> 20} MiB: no backup of ours")
    return raw


def described(raw: bytes, *, name: str) -> list[str]:
    """Each backup in it in a line. Raises Bad when it is damaged."""
    return [_in_words(backup) for backup in _proven(raw, name)]


def whole(parts: Sequence[tuple[str, bytes]]) -> int:
    """The number of records that the parts give together. Raises Bad when they are no chain."""
    backups = [backup for name, raw in parts for backup in _proven(raw, name)]
    try:
        return len(chained(backups))
    except Damaged as damaged:
        raise Bad(str(damaged)) from None


def _in_words(backup: Backup) -> str:
    manifest = backup.manifest
    extent = f"since {manifest.since}" if manifest.since is not None else "full"
    return (
        f"{extent}, up to {manifest.version}, configuration {manifest.config_version}, "
        f"{len(backup.records)} records, taken {manifest.at:%Y-%m-%d %H:%M:%S} UTC by {manifest.replica}"
    )


def _proven(raw: bytes, name: str) -> tuple[Backup, ...]:
    try:
        return decode(raw, name=name)
    except Damaged as damaged:
        raise Bad(str(damaged)) from None


async def _read(answer: httpx2.Response) -> bytes:
    body = bytearray()
    async for chunk in answer.aiter_bytes():
        body += chunk
        if len(body) > MAX_BYTES:
            raise Bad(f"the backup is larger than {MAX_BYTES >> 20} MiB")
    return bytes(body)
