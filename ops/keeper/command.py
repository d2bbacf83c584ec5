"""`leeward keeper`: its options, and the process that starts it again.

Two processes, for whoever undoes faults must not die of one. The outer is the one on record; it does
nothing but start the inner again when that ends other than by order. The inner does the work, and
when the outer is gone it undoes everything and ends. Killing either leaves no fault behind; killing
both at once leaves what is on file, for a runner that watches or the next `leeward start keeper`.
"""

import argparse
import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from ops.errors import Bad
from ops.local.stack import DEFAULT_STATE_DIR
from shared import log

RESTART_S = 0.2
MAX_RESTARTS = 20
"""In a row, each within `SOON_S`: a port that is taken stays taken."""
SOON_S = 5.0


def main(arguments: Sequence[str]) -> int:
    """Keep until SIGTERM or SIGINT; returns 0 after that. Raises Bad when the inner process cannot run."""
    chosen = parser().parse_args(arguments)
    host, port = chosen.listen
    outer = os.getpid()
    return guard(lambda: _keep(chosen.state_dir, host, port, outer))


def guard(work: Callable[[], int]) -> int:
    """Run `work` in a child until it ends by order (exit code 0), starting it again when it does not.

    Returns 0. Raises Bad when it ends again and again as soon as it is started. To be called while
    this process has one thread.
    """
    ended = False
    child = 0

    def end(_number: int, _frame: object) -> None:
        nonlocal ended
        ended = True
        if child:
            _tell(child)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    quick = 0
    while True:
        begun = time.monotonic()
        child = _fork(work)
        if ended:
            _tell(child)
        _, status = os.waitpid(child, 0)
        child = 0
        code = os.waitstatus_to_exitcode(status)
        if code == 0 or ended:
            return 0
        quick = quick + 1 if time.monotonic() - begun < SOON_S else 1
        print(f"leeward: the keeper ended with {code}; it is started again", file=sys.stderr, flush=True)
        if quick > MAX_RESTARTS:
            raise Bad(f"the keeper cannot run: it ended {quick} times in a row")
        time.sleep(RESTART_S)


def _fork(work: Callable[[], int]) -> int:
    child = os.fork()
    if child:
        return child
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    code = 70
    try:
        code = work()
    except BaseException:  # noqa: BLE001  (nothing may unwind into the outer process's frames)
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)  # never back into the outer one's stack


def _tell(child: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGTERM)


def _keep(state_dir: Path, host: str, port: int, outer: int) -> int:
    import uvloop

    from ops.keeper.app import run

    log.configure(role="keeper", node="keeper", region="local")
    return uvloop.run(run(state_dir, host=host, port=port, outer=outer))


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(
        prog="leeward keeper", description="Puts faults into a local stack, and undoes them in time."
    )
    options.add_argument("--state-dir", type=Path, default=DEFAULT_STATE_DIR, help="default: %(default)s")
    options.add_argument("--listen", type=_address, default=("127.0.0.1", 7050), metavar="HOST:PORT")
    return options


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if host not in ("127.0.0.1", "[::1]", "localhost") or not colon or not port.isdigit():
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a HOST:PORT of loopback: the keeper asks nobody for a password"
        )
    return host.strip("[]"), int(port)
