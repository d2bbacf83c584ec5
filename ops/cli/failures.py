"""From exceptions to a message on stderr and the contract's exit codes."""

import os
import sys
from collections.abc import Callable

from ops.errors import OpsError
from shared.config_file import ConfigError


def reported(command: Callable[[], int]) -> int:
    """Run `command`; what it is expected to fail with becomes a message and an exit code."""
    try:
        return command()
    except OpsError as error:
        complain(_told(error))
        return error.exit_code
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone (`leeward status | head`); the flush at exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, a path that is no folder, no permission
        complain(_in_words(error))
        return 2 if isinstance(error, _NO_SUCH_PLACE) else 1


def _told(error: OpsError) -> str:
    from ops.client import Refused

    if not isinstance(error, Refused):
        return str(error)
    from ops.cli.faults import in_options

    return in_options(error)


_NO_SUCH_PLACE = (FileNotFoundError, NotADirectoryError, IsADirectoryError, FileExistsError)
"""A path was named that does not lead where it should: the command line is wrong, and not the world."""


def _in_words(error: OSError) -> str:
    """`/backups/x: no such file or directory`, without the system's numbers."""
    said = (error.strerror or str(error) or type(error).__name__).strip()
    said = said[:1].lower() + said[1:]
    places = [str(place) for place in (error.filename, error.filename2) if place is not None]
    return f"{' -> '.join(places)}: {said}" if places else said


def complain(message: str) -> None:
    """One message for the operator, on stderr."""
    print(f"leeward: {message}", file=sys.stderr)
