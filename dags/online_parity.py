"""
Compares a sample of what the online store serves with the tables behind it, value by value.

Runs every morning, when the day before has been published, and fails when more differs than the setting
`parity.max_differing` allows. It changes nothing that is served. Safe to run again.
"""

from datetime import timedelta

from airflow.sdk import Asset, CronPartitionTimetable, ExceptionRetryPolicy, RetryAction, RetryRule, dag, task

from pipeline.contracts import ONLINE_PARITY
from pipeline.errors import NEVER_RETRIED


@dag(
    # By the clock and not after the recommendations: a restated range of days needs one comparison, not one a day.
    schedule=CronPartitionTimetable(
        "0 4 * * *", timezone="UTC", run_offset=-1, key_format="%Y-%m-%d", run_immediately=timedelta(0)
    ),
    catchup=False,
    max_active_runs=1,
    default_args={
        "owner": ONLINE_PARITY.owner,
        "retries": 3,
        "retry_delay": timedelta(minutes=10),
        "retry_policy": ExceptionRetryPolicy([RetryRule(list(NEVER_RETRIED), action=RetryAction.FAIL)]),
    },
    tags=["daily", "online"],
    doc_md=__doc__,
)
def online_parity():
    @task(outlets=[Asset(ONLINE_PARITY.name)], pool="lake", execution_timeout=timedelta(hours=1))
    def compare(**context) -> dict:
        from pipeline.observability import facts_of
        from pipeline.partitions import Day, utc_now
        from pipeline.settings import Settings
        from pipeline.steps.online_parity import check_parity

        checked = facts_of(check_parity(Day.parse(context["partition_key"]), Settings.load(), utc_now()))
        return {name: value for name, value in checked.items() if name != "views"}  # no user's id leaves the stores

    compare()


online_parity()
