"""Structured logs: one JSON object a line, one request id through HTTP, engine and journal; never a prompt or token."""

import logging
import sys
from pathlib import Path
from typing import TextIO

import structlog

from tirami.core.config import LogConfig

_SHARED: list[structlog.types.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure_logs(config: LogConfig, stream: TextIO | None = None) -> None:
    """Set up logging for this process, libraries included. Writes to ``log.file`` or standard error."""
    level = logging.getLevelNamesMapping()[config.level.upper()]
    output = stream or (Path(config.file).expanduser().open("a") if config.file else sys.stderr)
    render: structlog.types.Processor = (
        structlog.processors.JSONRenderer() if config.format == "json" else structlog.dev.ConsoleRenderer()
    )
    ending: list[structlog.types.Processor] = [structlog.processors.format_exc_info, render]
    structlog.configure(
        processors=[*_SHARED, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(output),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)
