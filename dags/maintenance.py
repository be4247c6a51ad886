"""
Merges the small files of the lake's tables, and deletes files of versions older than `stores.keep_versions_days`.
Before that it deletes logged look-ups older than `lookups.keep_days`.

Runs every Sunday. The content of all other tables stays the same; older versions of them can no longer be read, so
training sets made from those cannot be repeated. Safe to run again.
"""

from datetime import timedelta

from airflow.sdk import CronPartitionTimetable, ExceptionRetryPolicy, RetryAction, RetryRule, dag, task

from pipeline.contracts import BEHAVIOR_EVENTS
from pipeline.errors import NEVER_RETRIED


@dag(
    schedule=CronPartitionTimetable(
        "0 5 * * 0", timezone="UTC", run_offset=-1, key_format="%Y-%m-%d", run_immediately=timedelta(0)
    ),
    catchup=False,
    max_active_runs=1,
    default_args={
        "owner": BEHAVIOR_EVENTS.owner,
        "retries": 3,
        "retry_delay": timedelta(minutes=10),
        "retry_policy": ExceptionRetryPolicy([RetryRule(list(NEVER_RETRIED), action=RetryAction.FAIL)]),
    },
    tags=["upkeep"],
    doc_md=__doc__,
)
def maintenance():
    @task(pool="lake", execution_timeout=timedelta(hours=4))
    def maintain() -> dict:
        from pipeline.observability import facts_of
        from pipeline.partitions import utc_now
        from pipeline.settings import Settings
        from pipeline.steps.maintenance import maintain_lake

        return facts_of(maintain_lake(Settings.load(), utc_now()))

    maintain()


maintenance()
