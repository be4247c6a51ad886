"""Answered look-ups are kept, off the way of the answer, and compared with the tables of their time."""

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
import structlog
from typer.testing import CliRunner

from pipeline.contracts import LONG_TERM_INTEREST, LOOKUP_LOG, LOOKUP_PARITY, SEQUENCE_FEATURES
from pipeline.partitions import Day
from pipeline.serving.lookup_log import LookupLog
from pipeline.settings import Lookups, Parity, Settings
from pipeline.stores.tables import Lake

DAY = Day.parse("2026-03-01")
CREATED = DAY.end + timedelta(hours=1)
ASKED = DAY.end + timedelta(hours=6)
EVERY = Lookups(log=True, fraction=1.0)


def vector(user: str, *values: float, created: datetime = CREATED, day: Day = DAY) -> dict:
    facts = {"space_id": "s", "model_version": 1, "model_cutoff": DAY.start, "created": created}
    return {"user_id": user, "vector": list(values), "event_timestamp": day.as_of, **facts}


def vectors(*rows: dict) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=LONG_TERM_INTEREST.schema)


def sequences(*users: str) -> pl.DataFrame:
    moments = [DAY.start + timedelta(hours=h, microseconds=7) for h in (1, 2)]
    facts = {"item_ids": ["a", "b"], "event_types": ["view", "view"], "event_times": moments, "num_events": 2}
    clocks = {"event_timestamp": DAY.as_of, "created": CREATED}
    return pl.DataFrame([{"user_id": user, **facts, **clocks} for user in users], schema=SEQUENCE_FEATURES.schema)


@pytest.fixture(scope="module")
def serving(tmp_path_factory) -> Settings:
    """Two users who are served as the tables say. Tests ask on days of their own."""
    from pipeline.stores.feature_store import apply_definitions, push_online
    from pipeline.stores.ledger import Ledger

    settings = Settings.load(home=tmp_path_factory.mktemp("home"), lookups=EVERY)
    Ledger(settings.ledger_url).migrate()
    apply_definitions(settings)
    lake = Lake.of(settings)
    for table, rows in (
        (LONG_TERM_INTEREST, vectors(vector("anna", 0.6, 0.8), vector("berta", 1.0, 0.0))),
        (SEQUENCE_FEATURES, sequences("anna", "berta")),
    ):
        lake.replace(table, DAY, rows)
        push_online(settings, table.name, rows)
    return settings


def ask(settings: Settings, moment: datetime, *users: str) -> int:
    from pipeline.serving.lookup import look_up

    for user in users:
        look_up(settings, user, "ranking_v1", moment)
    return LookupLog.of(settings).flush()


def replay(settings: Settings, moment: datetime):
    from pipeline.steps.lookup_replay import replay_lookups

    return replay_lookups(Day.of(moment), Day.of(moment), settings, moment + timedelta(days=3))


def view_of(replayed, name: str = "long_term_interest"):
    return next(one.parity for one in replayed.answers if one.parity.view == name)


def test_nothing_is_kept_unless_it_is_switched_on(serving):
    assert Settings.load(home=serving.home).lookups.log is False
    moment = ASKED + timedelta(days=100)
    assert ask(serving.model_copy(update={"lookups": Lookups()}), moment, "anna") == 0
    assert Lake.of(serving).scan(LOOKUP_LOG).filter(pl.col("event_timestamp") == moment).collect().is_empty()


def test_a_share_is_kept_the_same_one_whoever_asks_again(serving):
    some = serving.model_copy(update={"lookups": Lookups(log=True, fraction=0.3)})
    log = LookupLog(some)
    for second in range(1000):
        log.keep("anna", "s", ASKED + timedelta(days=200, seconds=second), {"v": (["f"], None, {})})
    assert 230 < log.flush() < 370


def test_what_was_answered_is_what_the_tables_said_also_after_they_were_corrected(serving):
    assert ask(serving, ASKED, "anna", "berta", "nobody") == 9  # three views each
    lake = Lake.of(serving)
    corrected = vectors(vector("anna", 0.0, 1.0, created=ASKED + timedelta(hours=1)), vector("berta", 1.0, 0.0))
    lake.replace(LONG_TERM_INTEREST, DAY, corrected)

    replayed = replay(serving, ASKED)

    assert [(v.sampled, v.equal) for v in (one.parity for one in replayed.answers)] == [(3, 3)] * 3
    assert (replayed.failures, replayed.changed) == ((), True)
    assert not replay(serving, ASKED).changed
    kept = lake.read(LOOKUP_PARITY, Day.of(ASKED))
    assert kept.select("service", "view", "sampled", "equal").row(0) == ("ranking_v1", "interest_windows", 3, 3)


def test_an_answer_that_the_tables_never_gave_is_found_and_named_by_the_look_up_alone(serving):
    from pipeline.cli.app import app
    from pipeline.stores.feature_store import push_online

    moment = ASKED + timedelta(days=10)
    push_online(serving, "long_term_interest", vectors(vector("berta", 0.0, 1.0, day=DAY.plus(9))))
    push_online(serving, "long_term_interest", vectors(vector("stranger", 0.0, 1.0, day=DAY.plus(9))))
    ask(serving, moment, "berta", "stranger", "nobody")

    found = view_of(replay(serving, moment))

    assert (found.sampled, found.equal, found.mismatched, found.extra) == (3, 1, 1, 1)
    assert (found.mismatched_columns, found.least_cosine) == (("vector", "event_timestamp"), 0.0)
    command = ["--home", str(serving.home), "online", "replay", "--from", "2026-03-12"]
    shown = CliRunner().invoke(app, [*command, "--json"])
    structlog.reset_defaults()  # the command has sent the log to its own output, which is closed by now
    assert shown.exit_code == 3 and "1 mismatched, 1 extra of 3" in shown.stderr
    assert "berta" not in shown.stdout + shown.stderr
    assert len(json.loads(shown.stdout)["answers"][1]["parity"]["differing"]) == 2
    tolerant = serving.model_copy(update={"parity": Parity(max_differing=0.9)})
    assert replay(tolerant, moment).failures == ()


def test_a_row_on_its_way_to_the_online_store_is_no_difference(serving):
    moment = ASKED + timedelta(days=20)
    day = DAY.plus(19)
    fresh = vectors(vector("dora", 0.6, 0.8, created=moment - timedelta(minutes=10), day=day))
    Lake.of(serving).replace(LONG_TERM_INTEREST, day, fresh)
    ask(serving, moment, "dora")

    assert view_of(replay(serving, moment)).equal == 1
    at_once = serving.model_copy(update={"lookups": Lookups(log=True, fraction=1.0, push_minutes=5)})
    assert view_of(replay(at_once, moment)).missing == 1


def test_an_erased_user_leaves_the_log_and_never_comes_back_into_it(serving):
    from pipeline.stores.table_erasure import erase_rows
    from pipeline.stores.tombstones import Tombstones

    moment, lake = ASKED + timedelta(days=30), Lake.of(serving)
    assert ask(serving, moment, "gone") == 3
    Tombstones.of(serving).add("gone", "asked to", moment)

    assert erase_rows(lake, LOOKUP_LOG, Tombstones.of(serving), lambda _gone, _left: {}) == {"": 3}
    ask(serving, moment, "gone")
    assert "gone" not in lake.scan(LOOKUP_LOG).collect()["user_id"].to_list()


def test_a_log_that_cannot_be_written_costs_nobody_an_answer(serving, tmp_path):
    (tmp_path / "file").write_text("no lake")
    broken = serving.model_copy(update={"stores": serving.stores.model_copy(update={"lake": str(tmp_path / "file")})})
    log = LookupLog(broken)
    log.keep("anna", "s", ASKED, {"v": (["f"], None, {})})

    assert log.flush() == 0
    assert log.flush() == 0


def test_what_waits_is_written_without_being_asked(serving):
    import time

    quick = serving.model_copy(update={"lookups": Lookups(log=True, fraction=1.0, flush_seconds=0.05)})
    moment, log = ASKED + timedelta(days=40), LookupLog(quick)
    log.keep("anna", "s", moment, {"v": (["f"], None, {})})
    deadline = time.monotonic() + 20
    while Lake.of(serving).scan(LOOKUP_LOG).filter(pl.col("event_timestamp") == moment).collect().is_empty():
        assert time.monotonic() < deadline, "nothing was written"
        time.sleep(0.05)


@pytest.mark.parametrize("moment", [datetime(2026, 1, 1, tzinfo=UTC)])
def test_days_without_a_look_up_have_no_result(serving, moment):
    assert replay(serving, moment).answers == ()
