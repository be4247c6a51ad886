"""Settings of what everything stands on: tables, ledger, privacy, Airflow, ports; and what a backfill may change."""

from __future__ import annotations

from pydantic import Field, SecretStr

from pipeline.settings.group import Group


class Backfill(Group):
    """How much the first partition of a backfill may differ from what stands, before somebody has to accept it."""

    max_row_change: float = Field(default=0.05, ge=0, description="Rows more or less / rows that stand.")
    max_changed_share: float = Field(
        default=0.20, ge=0, description="Rows added, removed or changed / rows that stand."
    )
    max_edit_distance: float = Field(
        default=0.20, ge=0, le=1, description="Mean edit distance of the sequences that differ."
    )
    min_cosine: float = Field(default=0.95, ge=-1, le=1, description="Mean cosine of the vectors that differ.")


class Stores(Group):
    """Where everything else lives; empty means inside the home folder."""

    lake: str = Field(default="", description="Folder or object-store URL of the Delta tables.")
    landing: str = Field(default="", description="Folder into which the collector drops its files.")
    ledger: str = Field(default="", description="SQLAlchemy URL of the ledger.")
    mlflow: str = Field(default="", description="MLflow tracking and registry URI.")
    artifacts: str = Field(default="", description="Folder or object-store URL of MLflow's artifacts.")
    feast_registry: str = Field(default="", description="Path or SQLAlchemy URL of the Feast registry.")
    storage_options: dict[str, str] = Field(default={}, description="Passed to the Delta reader and writer.")
    keep_versions_days: float = Field(
        default=90.0, ge=1, description="How long old versions of a table can be read, for repeating training sets."
    )


class Privacy(Group):
    """What is kept of users' ids, and the keys for it. Set both keys in the environment, never in a file."""

    pseudonymise: bool = Field(
        default=False, description="Whether ids at rest are keyed pseudonyms. To be decided before the first load."
    )
    tombstone_key: SecretStr = Field(
        default=SecretStr(""), description="Signs tombstones; generated at home when empty. The same on all machines."
    )
    pseudonym_keys: SecretStr = Field(
        default=SecretStr(""), description="Keys of pseudonyms, the oldest first, by comma; generated when empty."
    )


class Airflow(Group):
    """The embedded Airflow of `interest up` and `make run`."""

    host: str = Field(default="127.0.0.1", description="The address that all embedded servers bind.")
    port: int = Field(default=8974, ge=1, le=65535, description="Port of Airflow's API server and pages.")
    executor: str = Field(default="LocalExecutor", description="Airflow's executor, by its own name.")
    parallelism: int = Field(default=4, ge=1, description="Tasks that run at once.")
    dags: str = Field(default="", description="Folder of Dags; empty for the one beside the package.")
    scheduled: bool = Field(
        default=False,
        description="Whether every midnight (UTC) starts the day that has ended; off where logs are loaded by hand.",
    )
    preload: bool = Field(
        default=True, description="Whether tasks are forked from a scheduler that has loaded their libraries."
    )
    database: str = Field(default="", description="SQLAlchemy URL of Airflow's metadata; empty for SQLite at home.")
    broker: str = Field(default="", description="URL of Celery's broker, where the executor is Celery's.")


class Ports(Group):
    """Ports of the other embedded servers, all on Airflow's host."""

    mlflow: int = Field(default=8975, ge=1, le=65535, description="MLflow's pages.")
    feast: int = Field(default=8976, ge=1, le=65535, description="Feast's feature server.")
    feast_ui: int = Field(default=8977, ge=1, le=65535, description="Feast's pages.")
    catalog: int = Field(default=8978, ge=1, le=65535, description="The feature catalogue; bound to 127.0.0.1 only.")
