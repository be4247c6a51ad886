"""
Trains the interest-evolution model once a week, as of the Monday that ends the week, and lets the gate decide.

Starts when all seven days of the week have their sequence features. Items without a text vector are embedded
first. A training that is interrupted goes on from its last checkpoint; a week is registered as one version.
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

from pipeline.contracts import LONG_TERM_INTEREST, SEQUENCE_FEATURES
from pipeline.errors import NEVER_RETRIED


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
    @task(execution_timeout=timedelta(hours=1))
    def embed() -> dict:
        from pipeline.observability import facts_of
        from pipeline.partitions import utc_now
        from pipeline.settings import Settings
        from pipeline.steps.item_text import embed_items

        return facts_of(embed_items(Settings.load(), utc_now()))

    @task(execution_timeout=timedelta(hours=6))
    def train(**context) -> dict:
        from pipeline.observability import facts_of
        from pipeline.partitions import Week, utc_now
        from pipeline.settings import Settings
        from pipeline.steps.interest_evolution import train_interest_model

        return facts_of(train_interest_model(Week.parse(context["partition_key"]).end, Settings.load(), utc_now()))

    @task(outlets=[Asset("interest_evolution")], execution_timeout=timedelta(hours=1))
    def gate(**context) -> dict:
        from pipeline.observability import facts_of
        from pipeline.partitions import Week, utc_now
        from pipeline.settings import Settings
        from pipeline.steps.interest_evolution import gate_interest_model

        return facts_of(gate_interest_model(Week.parse(context["partition_key"]).end, Settings.load(), utc_now()))

    embed() >> train() >> gate()


interest_evolution()
