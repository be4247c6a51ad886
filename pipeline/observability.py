"""Structured logs: partition, run and version stand on every line once they are bound."""

from __future__ import annotations

import logging
import sys

import structlog


def configure_logs(as_json: bool = False, level: str = "INFO") -> None:
    """Send the platform's log lines to standard error, for people or (`as_json`) for machines."""
    renderer = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )


def get_logger(name: str):
    """A logger of the named module; bind `partition=`, `run_key=`, `version=` where they are known."""
    return structlog.get_logger(name)
