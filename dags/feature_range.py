"""
Builds the features of a range of days in one pass, and pushes the newest rows online. On request only.

For what would take too long day by day: a definition that has changed, or a past that was published. Where the setting
`features.engine` is spark, the rows are made on the cluster of Airflow's connection `features.spark_connection`, if
the range reaches the newest day that is built. The days are committed together; what follows from them is named by
`interest backfill plan`. Safe to run again.
"""

from datetime import timedelta

from airflow.sdk import ExceptionRetryPolicy, Param, RetryAction, RetryRule, dag, task

from pipeline.contracts import SEQUENCE_FEATURES
from pipeline.errors import NEVER_RETRIED
from pipeline.settings import Settings

DAY = {"type": "string", "format": "date"}


@dag(
    schedule=None,
    max_active_runs=1,
    params={"first": Param(description="First UTC day.", **DAY), "last": Param(description="Last, included.", **DAY)},
    default_args={
        "owner": SEQUENCE_FEATURES.owner,
        "retries": 3,
        "retry_delay": timedelta(minutes=1),
        "retry_policy": ExceptionRetryPolicy([RetryRule(list(NEVER_RETRIED), action=RetryAction.FAIL)]),
        "pool": "lake",
        "execution_timeout": timedelta(hours=12),
    },
    tags=["features", "on request"],
    doc_md=__doc__,
)
def feature_range():
    features = Settings.load().features
    # Airflow begins the session and ends it. Nothing looks for the provider, or imports Spark, for another engine.
    submitted = features.engine == "spark" and hasattr(task, "pyspark")
    on_engine = task.pyspark(conn_id=features.spark_connection) if submitted else task

    @on_engine
    def build(spark=None, **context) -> dict:
        from pipeline.observability import facts_of
        from pipeline.partitions import Day, utc_now
        from pipeline.steps.feature_range import build_range

        first, last = (Day.parse(context["params"][end]) for end in ("first", "last"))
        return facts_of(build_range(first, last, Settings.load(), utc_now(), spark))

    @task
    def push(**context) -> list:
        from pipeline.observability import facts_of
        from pipeline.partitions import Day
        from pipeline.steps.sequence_features import push_features

        first, last = (Day.parse(context["params"][end]) for end in ("first", "last"))
        return [facts_of(rows) for rows in push_features(first, Settings.load(), last)]

    build() >> push()


feature_range()
