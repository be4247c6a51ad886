"""Parity: a sample of what is served is compared with the tables, value by value, against the real stores."""

import json
from datetime import UTC, datetime
from types import SimpleNamespace

import polars as pl
import pytest
from typer.testing import CliRunner

from pipeline.contracts import LONG_TERM_INTEREST, ONLINE_PARITY
from pipeline.errors import ContractViolation, EngineFailure, NotFound
from pipeline.partitions import Day
from pipeline.settings import Online, Parity, Settings
from pipeline.stores.ledger import Ledger
from pipeline.stores.tables import Lake

DAY = Day.parse("2026-03-01")
KNOWN_AT = datetime(2026, 3, 9, tzinfo=UTC)
USERS = [f"u{number}" for number in range(8)]


def vectors(users: list[str], *vector: float, day: Day = DAY) -> pl.DataFrame:
    facts = {"space_id": "s", "model_version": 1, "model_cutoff": DAY.start, "created": day.end}
    rows = [{"user_id": u, "vector": list(vector), "event_timestamp": day.as_of, **facts} for u in users]
    return pl.DataFrame(rows, schema=LONG_TERM_INTEREST.schema)


@pytest.fixture(scope="module")
def stores(online):
    """Six of eight users are served as the table says; nothing else is in the store."""
    from pipeline.stores.feature_store import push_online

    Ledger(online.ledger_url).migrate()
    lake = Lake(online.lake_url)
    lake.replace(LONG_TERM_INTEREST, DAY, vectors(USERS, 0.6, 0.8))
    lake.replace(LONG_TERM_INTEREST, DAY.plus(1), vectors(USERS[:3], 1.0, 0.0, day=DAY.plus(1)))
    push_online(online, LONG_TERM_INTEREST.name, lake.scan(LONG_TERM_INTEREST).collect())
    return SimpleNamespace(settings=online, lake=lake, ledger=Ledger(online.ledger_url), push=push_online)


def interest_of(checked):
    return next(view for view in checked.views if view.view == LONG_TERM_INTEREST.name)


def test_what_was_pushed_equals_the_tables_and_the_result_is_kept_once(stores):
    from pipeline.steps.online_parity import check_parity

    checked = check_parity(DAY, stores.settings, KNOWN_AT)
    assert (interest_of(checked).sampled, interest_of(checked).equal, checked.changed) == (8, 8, True)
    assert not check_parity(DAY, stores.settings, KNOWN_AT.replace(hour=5)).changed
    kept = stores.lake.read(ONLINE_PARITY, DAY)
    assert dict(kept.select("view", "equal").iter_rows())[LONG_TERM_INTEREST.name] == 8
    line = stores.ledger.partition(ONLINE_PARITY.name, DAY.key)
    assert (line.state, line.counts["rows"], line.counts["equal"]) == ("published", 6, 8)


def test_a_sample_is_the_same_all_day_and_another_one_tomorrow(stores):
    from pipeline.steps.online_parity import _sample

    users = [f"u{number}" for number in range(1000)]
    today = _sample(users, DAY, 50)
    assert _sample(reversed(users), DAY, 50) == today
    assert len({*today, *_sample(users, DAY.plus(1), 50)}) > 80


def test_missing_extra_and_changed_values_are_found_recorded_and_fail(stores):
    from pipeline.steps.online_parity import check_parity

    day = DAY.plus(2)
    stores.push(stores.settings, LONG_TERM_INTEREST.name, vectors(["stranger"], 1.0, 0.0))
    stores.push(stores.settings, LONG_TERM_INTEREST.name, vectors(["u0"], 0.0, 1.0, day=day))
    stores.lake.replace(LONG_TERM_INTEREST, DAY.plus(-1), vectors(["unserved"], 1.0, 0.0, day=DAY.plus(-1)))
    said = r"1 mismatched, 1 missing, 1 extra of 10 \(in vector, event_timestamp\)"
    with pytest.raises(ContractViolation, match=said):
        check_parity(day, stores.settings, KNOWN_AT)
    line = stores.ledger.partition(ONLINE_PARITY.name, day.key)
    assert line.state == "failed" and "1 extra" in line.details["failures"][0]
    assert "stranger" not in line.model_dump_json()
    row = stores.lake.read(ONLINE_PARITY, day).filter(pl.col("view") == LONG_TERM_INTEREST.name).row(0, named=True)
    assert (row["sampled"], row["equal"], row["mismatched"], row["missing"], row["extra"]) == (10, 7, 1, 1, 1)
    assert (row["mismatched_columns"], row["least_cosine"]) == (["vector", "event_timestamp"], 0.0)

    tolerant = stores.settings.model_copy(update={"parity": Parity(max_differing=0.3)})
    checked = check_parity(day, tolerant, KNOWN_AT)
    assert interest_of(checked).differing == ("stranger", "u0", "unserved")
    line = stores.ledger.partition(ONLINE_PARITY.name, day.key)
    assert (line.state, len(line.details["warnings"])) == ("published", 1)


def test_the_command_names_the_entities_that_differ(stores):
    from pipeline.cli.app import app

    if stores.settings.online.type == "redis":
        pytest.skip("the command finds the store in its settings; the embedded one is enough here")
    command = ["--home", str(stores.settings.home), "online", "parity", "--day", "2026-03-03"]
    shown = CliRunner().invoke(app, [*command, "--json"])
    assert shown.exit_code == 3
    assert json.loads(shown.stdout)["views"][2]["differing"] == ["stranger", "u0", "unserved"]
    assert "long_term_interest: 7 of 10 equal" in CliRunner().invoke(app, command).stdout


def test_a_store_that_is_away_is_no_difference(tmp_path):
    from pipeline.steps.online_parity import check_parity
    from pipeline.stores.feature_store import apply_definitions

    with pytest.raises(NotFound, match="applied"):
        check_parity(DAY, Settings.load(home=tmp_path / "new"), KNOWN_AT)
    away = Settings.load(home=tmp_path / "away", online=Online(type="redis", url="127.0.0.1:1"))
    Ledger(away.ledger_url).migrate()
    apply_definitions(away)
    with pytest.raises(EngineFailure, match="did not answer"):
        check_parity(DAY, away, KNOWN_AT)
    assert Ledger(away.ledger_url).partitions(ONLINE_PARITY.name) == []


def test_a_view_that_is_taken_away_leaves_the_others(stores):
    from pipeline.stores.feature_store import open_feature_store, prepare_online
    from pipeline.stores.served_rows import served_keys

    store = open_feature_store(stores.settings)
    view = store.get_feature_view("interest_windows")
    before = sorted(served_keys(stores.settings, LONG_TERM_INTEREST.name))
    store.provider.online_store.update(store.config, [view], [], [], [], partial=True)
    prepare_online(stores.settings)
    assert served_keys(stores.settings, "interest_windows") == []
    assert sorted(served_keys(stores.settings, LONG_TERM_INTEREST.name)) == before != []
