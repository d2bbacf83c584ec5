"""Structured logs: one JSON object a line on stderr, or coloured text where a person watches.

`get_logger` binds lazily, so importing a module configures nothing; `configure` is called once, by
each deployable's `main`.
"""

import logging
import sys
from typing import Any

import structlog


def get_logger(name: str) -> Any:
    """A lazy logger that carries the module's name."""
    return structlog.get_logger(component=name)


_level = "INFO"


def level() -> str:
    """What this process logs from, for those that it starts."""
    return _level


def configure(*, role: str, node: str, region: str, level: str = "INFO") -> None:
    """Set up this process's logs; every line says which process and region it comes from."""
    global _level
    _level = level
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(role=role, node=node, region=region)
    # Libraries speak through logging; their warnings matter, their chatter does not.
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
