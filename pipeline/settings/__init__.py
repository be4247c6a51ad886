"""
Every knob that an operator may turn: typed, documented, read here and nowhere else.

Order of precedence: arguments, environment (`INTEREST_ONLINE__TYPE=redis`), the file named by
`INTEREST_SETTINGS` or else `<home>/settings.toml`, the defaults of the groups in this folder. The numbers that shape a
model are not here: they are saved with its weights.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from pipeline.errors import BadSetting
from pipeline.faults import Fault, arm
from pipeline.settings.data import Features, Logs, Quality, Text
from pipeline.settings.learning import Evaluation, Gate, Recommending, Spaces, Training
from pipeline.settings.platform import Airflow, Backfill, Ports, Privacy, Stores
from pipeline.settings.serving import Access, Lookups, Online, Parity


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

