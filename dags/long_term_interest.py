"""
Encodes the users who were active on a day into `long_term_interest` and pushes the vectors online.

The day is served by the newest promoted interest model whose data ended before the day began. The online store
takes a row only when it is newer than what it holds. Safe to run again.
"""

from datetime import timedelta

from airflow.sdk import Asset, ExceptionRetryPolicy, PartitionedAssetTimetable, RetryAction, RetryRule, dag, task

from pipeline.contracts import LONG_TERM_INTEREST, SEQUENCE_FEATURES
from pipeline.errors import NEVER_RETRIED


@dag(
    schedule=PartitionedAssetTimetable(assets=Asset(SEQUENCE_FEATURES.name)),
    max_active_runs=1,
    default_args={
        "owner": LONG_TERM_INTEREST.owner,
        "retries": 3,
        "retry_delay": timedelta(minutes=1),
        "retry_policy": ExceptionRetryPolicy([RetryRule(list(NEVER_RETRIED), action=RetryAction.FAIL)]),
    },
    tags=["daily", "features", "online"],
    doc_md=__doc__,
)
def long_term_interest():
    @task(outlets=[Asset(LONG_TERM_INTEREST.name)], pool="lake", execution_timeout=timedelta(hours=1))
    def embed(**context) -> dict:
        from pipeline.observability import facts_of
        from pipeline.partitions import Day, utc_now
        from pipeline.settings import Settings
        from pipeline.steps.backfill_runs import backfill_of, tell_on
        from pipeline.steps.long_term_interest import embed_users

        backfill = backfill_of(context)
        tell_on(backfill, context["outlet_events"][Asset(LONG_TERM_INTEREST.name)])
        day = Day.parse(context["partition_key"])
        return facts_of(embed_users(day, Settings.load(), utc_now(), push=backfill is None))

    embed()


long_term_interest()
