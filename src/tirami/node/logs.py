"""Structured logs: one JSON object a line, one request id through HTTP, engine and journal; never a prompt or token."""

import logging
import sys
from pathlib import Path
from typing import TextIO

import structlog

from tirami.core.config import LogConfig
from tirami.core.errors import ConfigError


def configure_logs(config: LogConfig, stream: TextIO | None = None) -> None:
    """Set up structlog for this process. Writes to ``log.file`` or standard error.

    Raises ``ConfigError`` for an unknown level or format.
    """
    level = logging.getLevelNamesMapping().get(config.level.upper())
    if level is None:
        raise ConfigError(f"log.level {config.level!r} is unknown", param="log.level")
    if config.format not in ("json", "text"):
        raise ConfigError("log.format must be json or text", param="log.format")
    output = stream or (Path(config.file).expanduser().open("a") if config.file else sys.stderr)
    render = structlog.processors.JSONRenderer() if config.format == "json" else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(output),
        cache_logger_on_first_use=False,
    )
