"""Fixtures that every suite shares: a home of its own, and the real stores inside it."""

import os
import shutil
import sqlite3
import sys
from datetime import UTC, datetime, timedelta
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipeline.contracts import BEHAVIOR_EVENTS, ITEMS, PARTITION_COLUMN, UTC_TIME
from pipeline.settings import Settings

if not hasattr(sys.modules["__main__"], "__file__"):
    # One of several test processes: its main module has no name, which PySpark takes for a doctest and ends.
    sys.modules["__main__"].__spec__ = ModuleSpec("pytest.__main__", None)

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

    return Lake.of(settings)


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


PLANTED_START = datetime(2025, 9, 1, tzinfo=UTC)
"""A Monday."""
PLANTED_WEEKS = 9


@pytest.fixture
def planted_start() -> datetime:
    """The first moment of the planted log."""
    return PLANTED_START


@pytest.fixture(scope="session")
def planted_log() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Nine weeks of eighty users, (events, items). A user stays in one category and walks through it item by item."""
    generator = np.random.default_rng(11)
    start = PLANTED_START
    items = [(f"i{number:03d}", f"title {number}", [f"category {number // 100}"]) for number in range(400)]
    rows = []
    for user in range(80):
        place = int(generator.integers(100))
        for day in np.flatnonzero(generator.random(7 * PLANTED_WEEKS) < 0.35):
            for _ in range(int(generator.integers(1, 4))):
                place = (place + 1) % 100
                moment = start + timedelta(days=int(day), seconds=int(generator.integers(80_000)))
                rows.append((f"u{user:02d}", f"i{(user % 4) * 100 + place:03d}", moment))
    events = pl.DataFrame(rows, {"user_id": pl.String, "item_id": pl.String, "event_time": UTC_TIME}, orient="row")
    events = events.sort("event_time", "user_id").with_row_index("event_id")
    known = pl.lit(start).cast(UTC_TIME)
    events = events.with_columns(
        pl.col("event_id").cast(pl.String).str.zfill(6),
        event_type=pl.lit("view"),
        value=pl.lit(None, pl.Float64),
        ingested_at=pl.col("event_time"),
    ).select(BEHAVIOR_EVENTS.names)
    catalogue = pl.DataFrame(
        items, {"item_id": pl.String, "title": pl.String, "categories": pl.List(pl.String)}, orient="row"
    )
    return events, catalogue.with_columns(valid_from=known).select(ITEMS.names)


PLANTED_SETTINGS = """
[evaluation]
test_days = 7
validation_days = 7
bootstrap_samples = 100
[training]
max_epochs = 4
[training.model]
dim = 16
layers = 1
feed_forward = 32
tokens_a_batch = 256
learning_rate = 0.01
warmup_steps = 10
"""


@pytest.fixture(scope="session")
def planted_home(planted_log, registry_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose log is published and whose features are built; no model yet. To be copied, not used."""
    from pipeline.partitions import Day
    from pipeline.steps.sequence_features import build_history
    from pipeline.stores.feature_store import apply_definitions
    from pipeline.stores.ledger import Ledger
    from pipeline.stores.tables import Lake

    home = tmp_path_factory.mktemp("planted") / "home"
    home.mkdir()
    (home / "settings.toml").write_text(PLANTED_SETTINGS)
    settings = Settings.load(home=home)
    settings.place("mlflow").mkdir()
    shutil.copy(registry_database, settings.place("mlflow/mlflow.db"))
    Ledger(settings.ledger_url).migrate()
    events, items = planted_log
    first, last = Day.of(events["event_time"].min()), Day.of(events["event_time"].max())
    lake = Lake.of(settings)
    dated = events.with_columns(pl.col("event_time").dt.date().cast(pl.String).alias(PARTITION_COLUMN))
    lake.replace_range(BEHAVIOR_EVENTS, first, last, dated)
    lake.overwrite(ITEMS, items)
    build_history(first, last, settings, KNOWN_AT)
    apply_definitions(settings)
    return home


@pytest.fixture(scope="session")
def trained_home(planted_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The planted home with both models trained and promoted as of the end of its seventh week."""
    from pipeline.steps import collaborative_filter, interest_evolution

    settings = _moved(planted_home, tmp_path_factory.mktemp("trained") / "home")
    as_of = PLANTED_START + timedelta(weeks=7)
    interest_evolution.train_interest_model(as_of, settings, KNOWN_AT)
    assert interest_evolution.gate_interest_model(as_of, settings, KNOWN_AT).promoted
    collaborative_filter.train_collaborative_filter(as_of, settings, KNOWN_AT)
    assert collaborative_filter.gate_collaborative_filter(as_of, settings, KNOWN_AT).promoted
    return settings.home


@pytest.fixture(scope="session")
def two_releases_home(trained_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained home with a second release, promoted as of the end of the eighth week; no day is served yet."""
    from pipeline.steps import collaborative_filter, interest_evolution
    from pipeline.stores.promotions import promote
    from pipeline.stores.registry import Registry

    settings = _moved(trained_home, tmp_path_factory.mktemp("twice") / "home")
    as_of, registry = PLANTED_START + timedelta(weeks=8), Registry(settings)
    interest = interest_evolution.train_interest_model(as_of, settings, KNOWN_AT)
    promote(registry, registry.version(interest.model, interest.version), ["for tests"], "tests", KNOWN_AT)
    release = collaborative_filter.train_collaborative_filter(as_of, settings, KNOWN_AT)
    promote(registry, registry.version(release.model, release.version), ["for tests"], "tests", KNOWN_AT)
    return settings.home


@pytest.fixture
def two_releases(two_releases_home: Path, tmp_path: Path) -> Settings:
    """The settings of a home with two promoted releases, of the seventh and the eighth of nine weeks."""
    return _moved(two_releases_home, tmp_path / "home")


@pytest.fixture
def planted(planted_home: Path, tmp_path: Path) -> Settings:
    """The settings of a home with a published log and features, and no model yet."""
    return _moved(planted_home, tmp_path / "home")


@pytest.fixture
def trained(trained_home: Path, tmp_path: Path) -> Settings:
    """The settings of a home whose two models were promoted as of the end of the seventh of nine weeks."""
    return _moved(trained_home, tmp_path / "home")


@pytest.fixture
def moved():
    """Copies a home with models to another place: `moved(home, place)`, which returns the copy's settings."""
    return _moved


def _moved(source: Path, target: Path) -> Settings:
    """A copy of a home; MLflow's database holds absolute places, which are moved too."""
    shutil.copytree(source, target, dirs_exist_ok=True)
    connection = sqlite3.connect(target / "mlflow/mlflow.db")
    places = {
        "experiments": ("artifact_location",),
        "runs": ("artifact_uri",),
        "logged_models": ("artifact_location",),
        "model_versions": ("source", "storage_location"),
    }
    for table, columns in places.items():
        for column in columns:
            connection.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(source), str(target)))
    connection.commit()
    connection.close()
    return Settings.load(home=target)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """Tells the table of faults what a test was about."""
    report = yield
    if (fault := item.get_closest_marker("fault")) is not None:
        report.user_properties.append(("fault", fault.args[0]))
    return report


def pytest_terminal_summary(terminalreporter) -> None:
    """The faults that were tried, each with its outcome and how long it took."""
    rows: dict[str, list] = {}
    for outcome, reports in terminalreporter.stats.items():
        for report in reports if outcome in ("passed", "failed", "error", "skipped") else ():
            properties = getattr(report, "user_properties", ())  # a file that could not be collected has none
            for fault in [value for name, value in properties if name == "fault"]:
                worst = outcome if outcome != "passed" else "survived"
                said, seconds = rows.get(fault, ("survived", 0.0))
                took = sum(part.duration for part in reports if part.nodeid == report.nodeid)
                rows[fault] = (worst if said == "survived" else said, seconds + took)
    if rows:
        width = max(map(len, rows))
        terminalreporter.section("faults")
        for fault, (outcome, seconds) in rows.items():
            terminalreporter.write_line(f"{fault:<{width}}  {outcome:<8}  {seconds:6.1f} s")


@pytest.fixture(scope="session")
def language_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of two tiny language models with random weights, one that looks both ways and one that does not."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, GPT2Config, GPT2Model, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", *"ab", "item", "number", "even", "odd", *map(str, range(20))]
    tokenizer = Tokenizer(models.WordLevel({word: row for row, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    shape = {"vocab_size": len(words), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    made = {
        "bert": BertModel(BertConfig(**shape, intermediate_size=32, max_position_embeddings=128)),
        "gpt2": GPT2Model(GPT2Config(vocab_size=len(words), n_embd=16, n_layer=2, n_head=2, n_positions=128)),
    }
    folders = {}
    for name, model in made.items():
        folders[name] = str(tmp_path_factory.mktemp(name))
        model.save_pretrained(folders[name])
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]").save_pretrained(
            folders[name]
        )
    return folders
