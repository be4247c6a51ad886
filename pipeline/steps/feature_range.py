"""Builds the features of a range of days for the scheduler, where the engine may be a Spark cluster of its own."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from pipeline.errors import BadSetting
from pipeline.partitions import Day
from pipeline.settings import Settings
from pipeline.steps.sequence_features import BuiltFeatures, build_history

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def build_range(
    first: Day, last: Day, settings: Settings, known_at: datetime, session: SparkSession | None
) -> BuiltFeatures:
    """Replace the days of both tables. Twice is the same as once; a crash leaves the old partitions.

    A task never begins a session by itself: it would run on the worker, which the range has outgrown.

    Args:
        session: the one that the scheduler began by its connection; None where the engine is not Spark.

    Raises:
        BadSetting: the engine is Spark, and the scheduler has begun no session.
        BadPartition: the range is reversed.
        LogsMissing: no event was ever published. Worth a retry.
    """
    if settings.features.engine == "spark" and session is None:
        raise BadSetting(
            "Setting `features.engine` is spark, and Airflow's provider for Spark is not installed: pip install "
            "'interest[spark]' (apache-airflow-providers-apache-spark) where Airflow parses Dags and runs tasks, with "
            f"Java 17, and define the connection `{settings.features.spark_connection}`. Or set the engine to polars. "
            "Nothing was built."
        )
    return build_history(first, last, settings, known_at, session)
