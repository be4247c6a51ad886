"""Fixtures that every suite shares: a home of its own, and the real stores inside it."""

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.settings import Settings

KNOWN_AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""When the tests' steps say that they ran."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings.load(home=home)


@pytest.fixture
def lake(settings: Settings):
    from pipeline.stores.tables import Lake

    return Lake(settings.lake_url)


@pytest.fixture
def ledger(settings: Settings):
    from pipeline.stores.ledger import Ledger

    ledger = Ledger(settings.ledger_url)
    ledger.migrate()
    return ledger


@pytest.fixture
def known_at() -> datetime:
    return KNOWN_AT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real logs; a fresh clone has none, so the tests that need it say so and skip."""
    beside_the_repository = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("INTEREST_SHARED_DATA", beside_the_repository))
    if not folder.is_dir():
        pytest.skip(f"needs the real logs; {folder} is absent (point INTEREST_SHARED_DATA at them)")
    return folder


@pytest.fixture(scope="session")
def registry_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated MLflow database without content. Creating one takes seconds, so suites copy this one."""
    from pipeline.stores.registry import Registry

    settings = Settings.load(home=tmp_path_factory.mktemp("registry"))
    Registry(settings).versions("interest_evolution")
    return settings.place("mlflow/mlflow.db")


@pytest.fixture
def registry(settings: Settings, ledger, registry_database: Path):
    from pipeline.stores.registry import Registry

    settings.place("mlflow").mkdir(parents=True)
    shutil.copy(registry_database, settings.place("mlflow/mlflow.db"))
    registry = Registry(settings)
    registry.prepare()
    return registry
