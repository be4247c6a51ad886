"""
Ranks the catalogue for the users who were active on a day, writes `recommendations` and pushes them online.

The vectors, the item index and the collaborative-filtering factors of a day come from one release, so they
share a space. Safe to run again.
"""

from datetime import timedelta

from airflow.sdk import Asset, ExceptionRetryPolicy, PartitionedAssetTimetable, RetryAction, RetryRule, dag, task

from pipeline.contracts import LONG_TERM_INTEREST, RECOMMENDATIONS
from pipeline.errors import NEVER_RETRIED


@dag(
    schedule=PartitionedAssetTimetable(assets=Asset(LONG_TERM_INTEREST.name)),
    max_active_runs=1,
    default_args={
        "owner": RECOMMENDATIONS.owner,
        "retries": 3,
        "retry_delay": timedelta(minutes=1),
        "retry_policy": ExceptionRetryPolicy([RetryRule(list(NEVER_RETRIED), action=RetryAction.FAIL)]),
    },
    tags=["daily", "online"],
    doc_md=__doc__,
)
def recommendations():
    @task(outlets=[Asset(RECOMMENDATIONS.name)], pool="lake", execution_timeout=timedelta(hours=1))
    def recommend(**context) -> dict:
        from pipeline.observability import facts_of
        from pipeline.partitions import Day, utc_now
        from pipeline.settings import Settings
        from pipeline.steps.backfill_runs import backfill_of, tell_on
        from pipeline.steps.recommendations import recommend_items

        backfill = backfill_of(context)
        tell_on(backfill, context["outlet_events"][Asset(RECOMMENDATIONS.name)])
        day = Day.parse(context["partition_key"])
        return facts_of(recommend_items(day, Settings.load(), utc_now(), push=backfill is None))

    recommend()


recommendations()
