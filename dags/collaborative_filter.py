"""
Fine-tunes the collaborative filter on the week's interest model and lets the gate decide.

Starts when the gate of the interest model has decided, and has the same weekly key. A promoted filter and the
interest model it was tuned with are one release. A week is registered as one version; safe to run again. Days
that were embedded and ranked before their release was promoted are written again, both from the new release.
"""

from datetime import timedelta

from airflow.sdk import Asset, ExceptionRetryPolicy, PartitionedAssetTimetable, RetryAction, RetryRule, dag, task
from airflow.sdk.exceptions import AirflowSkipException

from pipeline.contracts import RECOMMENDATIONS
from pipeline.errors import NEVER_RETRIED, NoInterestModel


@dag(
    schedule=PartitionedAssetTimetable(assets=Asset("interest_evolution")),
    max_active_runs=1,
    default_args={
        "owner": RECOMMENDATIONS.owner,
        "retries": 2,
        "retry_delay": timedelta(minutes=1),
        "retry_policy": ExceptionRetryPolicy([RetryRule(list(NEVER_RETRIED), action=RetryAction.FAIL)]),
        "pool": "gpu",
        "queue": "gpu",  # where a Celery worker with a GPU listens; the embedded executor has one queue
    },
    tags=["weekly", "model"],
    doc_md=__doc__,
)
def collaborative_filter():
    @task(execution_timeout=timedelta(hours=6))
    def train(**context) -> dict:
        from pipeline.observability import facts_of
        from pipeline.partitions import Week, utc_now
        from pipeline.settings import Settings
        from pipeline.steps.collaborative_filter import train_collaborative_filter

        as_of = Week.parse(context["partition_key"]).end
        try:
            return facts_of(train_collaborative_filter(as_of, Settings.load(), utc_now()))
        except NoInterestModel as reason:
            raise AirflowSkipException(str(reason)) from reason

    @task(outlets=[Asset("collaborative_filter")], execution_timeout=timedelta(hours=1))
    def gate(**context) -> dict:
        from pipeline.observability import facts_of
        from pipeline.partitions import Week, utc_now
        from pipeline.settings import Settings
        from pipeline.steps.collaborative_filter import gate_collaborative_filter

        as_of = Week.parse(context["partition_key"]).end
        return facts_of(gate_collaborative_filter(as_of, Settings.load(), utc_now()))

    @task(pool="lake", queue="default", execution_timeout=timedelta(hours=1))
    def restate() -> dict:
        from pipeline.observability import facts_of
        from pipeline.partitions import utc_now
        from pipeline.settings import Settings
        from pipeline.steps.releases import restate_release

        return facts_of(restate_release(Settings.load(), utc_now()))

    train() >> gate() >> restate()


collaborative_filter()
