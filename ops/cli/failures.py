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
        complain(str(error))
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
        complain(str(error))
        return 1


def complain(message: str) -> None:
    """One message for the operator, on stderr."""
    print(f"leeward: {message}", file=sys.stderr)
