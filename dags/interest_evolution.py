"""
Trains the interest-evolution model once a week, as of the Monday that ends the week, and lets the gate decide.

Starts when all seven days of the week have their sequence features. An interrupted training goes on from its last
checkpoint; a week is one version. Days that were embedded before their model was promoted are embedded again.
"""

from datetime import timedelta

from airflow.sdk import (
    Asset,
    ExceptionRetryPolicy,
    PartitionedAssetTimetable,
    RetryAction,
    RetryRule,
    RollupMapper,
    StartOfWeekMapper,
    WeekWindow,
    dag,
    task,
)
from airflow.sdk.exceptions import AirflowSkipException

from pipeline.contracts import LONG_TERM_INTEREST, SEQUENCE_FEATURES
from pipeline.errors import NEVER_RETRIED
from pipeline.partitions import Week, utc_now
from pipeline.settings import Settings


@dag(
    schedule=PartitionedAssetTimetable(
        assets=Asset(SEQUENCE_FEATURES.name),
        default_partition_mapper=RollupMapper(
            upstream_mapper=StartOfWeekMapper(input_format="%Y-%m-%d"), window=WeekWindow()
        ),
    ),
    max_active_runs=1,
    default_args={
        "owner": LONG_TERM_INTEREST.owner,
        "retries": 2,
        "retry_delay": timedelta(minutes=1),
        "retry_policy": ExceptionRetryPolicy([RetryRule(list(NEVER_RETRIED), action=RetryAction.FAIL)]),
        "pool": "gpu",
        "queue": "gpu",  # where a Celery worker with a GPU listens; the embedded executor has one queue
    },
    tags=["weekly", "model"],
    doc_md=__doc__,
)
def interest_evolution():
    @task(execution_timeout=timedelta(hours=6))
    def train(**context) -> dict:
        from pipeline.observability import facts_of
        from pipeline.steps.backfill_runs import backfill_of, why_nothing_is_trained
        from pipeline.steps.interest_evolution import train_interest_model
        from pipeline.steps.item_text import embed_items

        if backfill := backfill_of(context):
            raise AirflowSkipException(why_nothing_is_trained(backfill))
        embed_items(Settings.load(), utc_now())
        return facts_of(train_interest_model(Week.parse(context["partition_key"]).end, Settings.load(), utc_now()))

    @task(outlets=[Asset("interest_evolution")], execution_timeout=timedelta(hours=1))
    def gate(**context) -> dict:
        from pipeline.observability import facts_of
        from pipeline.steps.interest_evolution import gate_interest_model

        return facts_of(gate_interest_model(Week.parse(context["partition_key"]).end, Settings.load(), utc_now()))

    @task(pool="lake", queue="default", execution_timeout=timedelta(hours=1))
    def restate() -> list:
        from pipeline.observability import facts_of
        from pipeline.steps.long_term_interest import restate_interest

        return [facts_of(day) for day in restate_interest(Settings.load(), utc_now())]

    train() >> gate() >> restate()


interest_evolution()
