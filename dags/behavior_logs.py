"""
Turns one UTC day of raw behaviour logs into one published partition of `behavior_events`.

Rows that break the contract are quarantined with a reason code; a day that fails a quality check publishes
nothing. Runs every midnight for the day that has just ended, and looks back: an earlier day for which something
arrived is published again, and what follows from it is made again. Safe to run again.
"""

from datetime import timedelta

from airflow.sdk import Asset, CronPartitionTimetable, ExceptionRetryPolicy, RetryAction, RetryRule, dag, task

from pipeline.contracts import BEHAVIOR_EVENTS
from pipeline.errors import NEVER_RETRIED


@dag(
    schedule=CronPartitionTimetable(
        "0 0 * * *",
        timezone="UTC",
        run_offset=-1,
        key_format="%Y-%m-%d",
        run_immediately=timedelta(0),  # a new installation begins at the next midnight, not with yesterday
    ),
    catchup=False,
    max_active_runs=1,  # days are published in order: the checks of a day compare it with the weeks before
    default_args={
        "owner": BEHAVIOR_EVENTS.owner,
        "retries": 3,
        "retry_delay": timedelta(minutes=1),
        "retry_policy": ExceptionRetryPolicy([RetryRule(list(NEVER_RETRIED), action=RetryAction.FAIL)]),
    },
    tags=["daily", "events"],
    doc_md=__doc__,
)
def behavior_logs():
    @task(outlets=[Asset(BEHAVIOR_EVENTS.name)], pool="lake", execution_timeout=timedelta(hours=1))
    def publish(**context) -> dict:
        from pipeline.observability import facts_of
        from pipeline.partitions import Day, utc_now
        from pipeline.settings import Settings
        from pipeline.steps.backfill_runs import backfill_at_root, tell_on
        from pipeline.steps.log_lookback import publish_day

        # A backfill restates the days that it names; the clock's run finds those that need it.
        looks_back = context["dag_run"].run_type == "scheduled"
        day = publish_day(Day.parse(context["partition_key"]), Settings.load(), utc_now(), looks_back)
        event = context["outlet_events"][Asset(BEHAVIOR_EVENTS.name)]
        event.add_partitions(list(day.partitions))
        tell_on(backfill_at_root(context, Settings.load()), event)
        return facts_of(day)

    publish()


behavior_logs()
