"""A process of Leeward with failpoints: what signals and broken links cannot time.

`python -m tests.support.failpoints ROLE --config FILE` runs what `leeward ROLE --config FILE` runs. The files in
the directory `LEEWARD_FAILPOINTS` say what is to go wrong; a failpoint takes its file away and happens once:

    stop-before-commit   SIGSTOP to itself with the next head decided and not yet written
    kill-after-commit    SIGKILL to itself with the next head written and not yet published
    lose-reply           the next head is written, and the caller is told that nobody answered
    clock-offset         its content, in seconds, is added to the wall clock for as long as it is there

Every head that was written is put into `committed`, so that a test knows what must not be lost.
"""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from shared import keys
from shared.adapters.etcd import EtcdStore
from shared.clock import SystemClock
from shared.ports import Compare, Delete, Put, TxnResult, Unavailable

DIRECTORY = "LEEWARD_FAILPOINTS"


def install(directory: Path) -> None:
    """Put the failpoints into this process."""
    commit, now = EtcdStore.commit, SystemClock.now

    def due(name: str) -> bool:
        try:
            (directory / name).unlink()
        except FileNotFoundError:
            return False
        return True

    async def commit_or_fail(
        self: EtcdStore, compares: Sequence[Compare], then: Sequence[Put | Delete]
    ) -> TxnResult:
        heads = [put.value for put in then if isinstance(put, Put) and put.key == keys.DECISIONS_HEAD]
        if heads and due("stop-before-commit"):
            os.kill(os.getpid(), signal.SIGSTOP)
        result = await commit(self, compares, then)
        if heads and result.succeeded:
            (directory / "committed").write_bytes(heads[0])
            if due("kill-after-commit"):
                os.kill(os.getpid(), signal.SIGKILL)
            if due("lose-reply"):
                raise Unavailable("failpoint: the reply was lost")
        return result

    def now_with_offset(self: SystemClock) -> datetime:
        with suppress(OSError, ValueError):
            return now(self) + timedelta(seconds=float((directory / "clock-offset").read_text()))
        return now(self)

    EtcdStore.commit = commit_or_fail  # type: ignore[method-assign]
    SystemClock.now = now_with_offset  # type: ignore[method-assign]


if __name__ == "__main__":
    from ops.cli.serve import serve

    install(Path(os.environ[DIRECTORY]))
    sys.exit(serve(sys.argv[1:]))
