"""Boot numbers: which of two lives of the same process is the later one.

A source numbers its events `(boot, seq)` and readers keep the greatest, so a boot number that ever
fell back would make a restarted source unheard. Two witnesses guard against that: the number on
disk, which survives a clock that steps back, and the wall clock, which survives a disk that was
lost, is full or holds garbage. Only losing both at once (an emptied state directory on a host whose
clock is behind its last start) gives a smaller number; readers then hear the source again once
they have forgotten its former life.
"""

import os
from pathlib import Path

from shared.clock import Clock, SystemClock
from shared.log import get_logger

log = get_logger(__name__)

MAX_BOOT = 2**53
"""The greatest integer that every JSON reader keeps exact; anything above is not our writing."""


def next_boot(state_dir: Path, name: str, *, clock: Clock | None = None) -> int:
    """A number greater than any returned before for `name`; kept in `state_dir/<name>.boot`.

    It is one more than the number on disk, or the wall clock in seconds if that is greater. The
    file is replaced atomically and synced before this returns. A state directory that cannot be
    written is logged and does not keep the process from starting: the wall clock then carries on
    alone. To be called once per start, by one process per `name`.
    """
    path = state_dir / f"{name}.boot"
    boot = max(_read(path) + 1, int((clock or SystemClock()).now().timestamp()))
    try:
        _write(path, boot)
    except OSError as error:
        log.warning("boot number not kept, the clock alone orders restarts", path=str(path), error=str(error))
    return boot


def _read(path: Path) -> int:
    try:
        with path.open("rb") as file:
            text = file.read(64).strip()
    except FileNotFoundError:
        return 0
    except OSError as error:
        log.warning("boot number not readable", path=str(path), error=str(error))
        return 0
    if text.isdigit() and int(text) < MAX_BOOT:
        return int(text)
    log.warning("boot number on disk is damaged, going on from the clock", path=str(path))
    return 0


def _write(path: Path, boot: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with fresh.open("wb") as file:
            file.write(b"%d\n" % boot)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # the rename itself must survive a power cut
    finally:
        os.close(directory)
