"""
Builds one day of `sequence_features` and `interest_windows` from the day's published events, and pushes it online.

A row holds what was known of a user at the end of the day, so each day stands on the one before it: runs are
made one at a time, in the order in which the days were published. Safe to run again.
"""

from datetime import timedelta

from airflow.sdk import Asset, ExceptionRetryPolicy, PartitionedAssetTimetable, RetryAction, RetryRule, dag, task

from pipeline.contracts import BEHAVIOR_EVENTS, SEQUENCE_FEATURES
from pipeline.errors import NEVER_RETRIED


@dag(
    schedule=PartitionedAssetTimetable(assets=Asset(BEHAVIOR_EVENTS.name)),
    max_active_runs=1,
    default_args={
        "owner": SEQUENCE_FEATURES.owner,
        "retries": 3,
        "retry_delay": timedelta(minutes=1),
        "retry_policy": ExceptionRetryPolicy([RetryRule(list(NEVER_RETRIED), action=RetryAction.FAIL)]),
    },
    tags=["daily", "features"],
    doc_md=__doc__,
)
def sequence_features():
    @task(outlets=[Asset(SEQUENCE_FEATURES.name)], pool="lake", execution_timeout=timedelta(hours=1))
    def build(**context) -> dict:
        from pipeline.observability import facts_of
        from pipeline.partitions import Day, utc_now
        from pipeline.settings import Settings
        from pipeline.steps.backfill_runs import backfill_of, tell_on
        from pipeline.steps.sequence_features import publish_features

        backfill = backfill_of(context)
        tell_on(backfill, context["outlet_events"][Asset(SEQUENCE_FEATURES.name)])
        day = Day.parse(context["partition_key"])
        return facts_of(publish_features(day, Settings.load(), utc_now(), push=backfill is None))

    build()


sequence_features()
