"""Tells an MLflow that did not answer, which is worth a retry, from one that refuses what it was asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.engine import make_url

from pipeline.errors import EngineFailure
from pipeline.settings import Settings

AWAY = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")
"""What MLflow calls a server that cannot be reached, or that failed itself; it has names of their own for refusals."""


@contextmanager
def answering(settings: Settings) -> Iterator[None]:
    """Inside, an MLflow that does not answer is an EngineFailure."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code not in AWAY:
            raise
        place = make_url(settings.mlflow_uri).render_as_string(hide_password=True)
        raise EngineFailure(
            f"MLflow at {place} did not answer: {error.message}. What was trained is kept under its run key; run the "
            "step again when MLflow is back."
        ) from error
