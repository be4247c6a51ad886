"""Structured logs: partition, run and version stand on every line once they are bound."""

from __future__ import annotations

import dataclasses
import json
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
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # as it is when a line is written
    )


def get_logger(name: str):
    """A logger of the named module; bind `partition=`, `run_key=`, `version=` where they are known."""
    return structlog.get_logger(name)


def facts_of(result: object) -> dict[str, object]:
    """What a step returned (pydantic model, dataclass or mapping) as JSON facts, for the scheduler and for `--json`."""
    if hasattr(result, "model_dump"):
        return result.model_dump(mode="json")
    facts = dataclasses.asdict(result) if dataclasses.is_dataclass(result) else dict(result)
    return json.loads(json.dumps(facts, default=str))
