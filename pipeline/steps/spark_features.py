"""Makes the rows of a range of days with Spark; what they are, and how they are committed, is as without it."""

from __future__ import annotations

from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

from pipeline.contracts import BEHAVIOR_EVENTS
from pipeline.errors import BadSetting
from pipeline.partitions import Day
from pipeline.settings import Settings
from pipeline.steps.feature_state import definitions_of
from pipeline.stores.tables import Lake


def lay_by_in_spark(
    settings: Settings, lake: Lake, first: Day, last: Day, known_at: datetime, scratch: Path
) -> None:
    """Lay the rows of both tables by in `scratch`. Raises BadSetting where Spark is not installed."""
    if find_spec("pyspark") is None:
        raise BadSetting(
            "Setting `features.engine` is spark, and pyspark is not installed: pip install 'interest[spark]', with "
            "Java 17. Or set it to polars."
        )
    from pipeline.features.spark import lay_by_with_spark, spark_session

    with spark_session(settings.features.spark_master, settings.features.spark_buckets) as session:
        for table, extend in definitions_of(lake, settings).items():
            lay_by_with_spark(
                session,
                table,
                extend,
                events=lake.file_uris(BEHAVIOR_EVENTS),
                before=lake.file_uris(table),
                first=first.start,
                end=last.end,
                known_at=known_at,
                buckets=settings.features.spark_buckets,
                out=scratch / table.name / "bucket=all",
            )
