"""What an operator's command may fail with, and the exit code of each (contract).

    OpsError
    ├── Bad            1   the thing asked about is bad, or could not be done
    ├── Usage          2   the command line or a file it names is wrong
    └── Unreachable    3   nobody answered

The command line prints the message to stderr, without a traceback.
"""


class OpsError(Exception):
    """Base of what a command may fail with; `str()` is what the operator reads."""

    exit_code = 1


class Bad(OpsError):
    """The thing asked about is bad, or what was asked for could not be done."""

    exit_code = 1


class Usage(OpsError):
    """The command line, or a file it names, is wrong."""

    exit_code = 2


class Unreachable(OpsError):
    """Nobody answered."""

    exit_code = 3
