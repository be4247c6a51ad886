"""What is served can be made again from the tables alone, to the same values, while others read and write."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from pipeline.contracts import ITEM_TEXT, LONG_TERM_INTEREST, RECOMMENDATIONS
from pipeline.errors import EngineFailure
from pipeline.partitions import Day
from pipeline.settings import Settings
from pipeline.stores.tables import Lake

FIRST = Day.parse("2026-03-01")
USERS = [f"u{number}" for number in range(6)]
NOW = datetime(2026, 3, 10, tzinfo=UTC)


def vectors(day: Day, users: list[str], mark: int, known_at: datetime) -> pl.DataFrame:
    facts = {"model_version": mark, "model_cutoff": FIRST.start, "event_timestamp": day.as_of}
    rows = [
        {"user_id": user, "vector": [float(mark), 1.0], "space_id": "s", "created": known_at, **facts} for user in users
    ]
    return pl.DataFrame(rows, schema=LONG_TERM_INTEREST.schema)


def lists(day: Day, users: list[str], known_at: datetime) -> pl.DataFrame:
    facts = {"space_id": "s", "model_version": 1, "model_cutoff": FIRST.start, "event_timestamp": day.as_of}
    rows = [{"user_id": u, "item_ids": [f"for {u}"], "scores": [1.0], "created": known_at, **facts} for u in users]
    return pl.DataFrame(rows, schema=RECOMMENDATIONS.schema)


@pytest.fixture(scope="module")
def filled(online) -> Settings:
    """Four days, pushed as they came; then the second is corrected, and a user of it is served by that row still."""
    from pipeline.stores.feature_store import push_online

    lake = Lake(online.lake_url)

    def write(table, day, frame):
        lake.replace(table, day, frame)
        push_online(online, table.name, lake.current(table, day, day).collect())

    write(LONG_TERM_INTEREST, FIRST, vectors(FIRST, USERS, 1, FIRST.end))
    for number in (1, 2, 3):
        day = FIRST.plus(number)
        write(LONG_TERM_INTEREST, day, vectors(day, USERS[number:], 10 * number, day.end))
        write(RECOMMENDATIONS, day, lists(day, USERS[number:], day.end))
    second = FIRST.plus(1)
    write(LONG_TERM_INTEREST, second, vectors(second, USERS[1:], 11, NOW - timedelta(days=1)))
    text = {"item_id": "i1", "vector": [1.0], "space_id": "t", "event_timestamp": FIRST.start, "created": FIRST.start}
    lake.overwrite(ITEM_TEXT, pl.DataFrame([text], schema=ITEM_TEXT.schema))
    push_online(online, ITEM_TEXT.name, lake.scan(ITEM_TEXT).collect())
    return online


def state(settings: Settings) -> dict:
    from pipeline.serving.lookup import look_up

    services = ("ranking_v1", "support_profile_v1")
    return {(user, name): look_up(settings, user, name, NOW).views for user in [*USERS, "nobody"] for name in services}


def lose(settings: Settings) -> None:
    if settings.online.type == "redis":
        import redis

        host, port = settings.online.url.split(":")
        redis.Redis(host, int(port)).flushall()
    else:
        for file in settings.online_path.parent.glob("online.db*"):
            file.unlink()


def test_a_lost_store_is_rebuilt_to_what_it_served(filled):
    from pipeline.steps.online_rebuild import rebuild_online

    before = state(filled)
    assert before["u1", "ranking_v1"]["long_term_interest"].values["vector"] == [11.0, 1.0]
    lose(filled)
    rebuilt = rebuild_online(Day.of(NOW), filled)
    assert state(filled) == before
    rows = {view.view: (view.rows, view.accepted, view.refused) for view in rebuilt.views}
    assert rows["long_term_interest"] == (6, 6, 0)
    assert rows["recommendations"] == (5, 5, 0)
    assert rows["item_text"] == (1, 1, 0)
    assert rows["sequence_features"] == (0, 0, 0)


def test_rebuilding_what_is_there_writes_nothing(filled):
    from pipeline.steps.online_rebuild import rebuild_online

    before = state(filled)
    assert {view.accepted for view in rebuild_online(Day.of(NOW), filled).views} == {0}
    assert rebuild_online(FIRST, filled).views[2].refused == 6
    assert state(filled) == before


def test_an_emptied_store_can_be_rebuilt_as_of_an_earlier_day(filled):
    from pipeline.steps.online_rebuild import rebuild_online

    lose(filled)
    rebuild_online(FIRST.plus(2), filled)
    answers = {u: state(filled)[u, "ranking_v1"]["long_term_interest"] for u in USERS}
    assert [answers[u].values["vector"][0] for u in USERS] == [1, 11, 20, 20, 20, 20]
    rebuild_online(Day.of(NOW), filled)
    assert state(filled)["u5", "ranking_v1"]["long_term_interest"].values["vector"][0] == 30


def test_reads_and_pushes_go_on_while_it_is_rebuilt(filled):
    from pipeline.serving.lookup import look_up
    from pipeline.steps.online_rebuild import rebuild_online
    from pipeline.stores.feature_store import push_online

    lose(filled)
    rebuild_online(FIRST, filled)
    wrong, done, newest = [], threading.Event(), FIRST.plus(8)

    def read() -> None:
        before = FIRST.start
        while not done.is_set():
            view = look_up(filled, "u5", "ranking_v1", NOW).views["long_term_interest"]
            if view.status == "not_found" or view.event_time < before:
                wrong.append(view)
            before = view.event_time

    reader = threading.Thread(target=read)
    reader.start()
    push_online(filled, "long_term_interest", vectors(newest, ["u4"], 99, NOW))
    rebuild_online(Day.of(NOW), filled)
    done.set()
    reader.join()
    assert wrong == []
    assert state(filled)["u4", "ranking_v1"]["long_term_interest"].event_time == newest.as_of


@pytest.mark.parametrize(
    ("rows_at_once", "expected"),
    [
        (1, [USERS[3:], ["u2"], ["u1"], ["u0"]]),
        (7, [USERS[2:], ["u1"], ["u0"]]),
        (100, [USERS]),
    ],
)
def test_memory_holds_some_days_at_a_time_and_each_entity_comes_once(filled, rows_at_once, expected):
    from pipeline.steps.online_rebuild import newest_rows

    lake = Lake(filled.lake_url)
    parts = list(newest_rows(lake, LONG_TERM_INTEREST, "user_id", FIRST.plus(3), rows_at_once))
    assert [sorted(part["user_id"]) for part in parts] == expected
    rows = {user: vector[0] for part in parts for user, vector in part.select("user_id", "vector").iter_rows()}
    assert list(map(rows.get, USERS)) == [1, 11, 20, 30, 30, 30]


def test_a_reader_of_a_file_that_is_gone_says_so_and_makes_none(tmp_path: Path):
    from pipeline.serving.lookup import look_up
    from pipeline.steps.online_rebuild import rebuild_online
    from pipeline.stores.feature_store import apply_definitions, push_online

    settings = Settings.load(home=tmp_path)
    apply_definitions(settings)
    lose(settings)
    with pytest.raises(EngineFailure, match="interest online rebuild"):
        look_up(settings, "u1", "ranking_v1", NOW)
    with pytest.raises(EngineFailure, match="interest online rebuild"):
        push_online(settings, "long_term_interest", vectors(FIRST, USERS, 1, NOW))
    assert not settings.online_path.exists()
    settings.online_path.touch()  # an empty file, as a copy that broke off leaves it
    rebuild_online(FIRST, settings)
    assert look_up(settings, "u1", "ranking_v1", NOW).status == "not_found"


def test_the_command_says_how_many_rows_and_how_long(filled):
    from typer.testing import CliRunner

    from pipeline.cli.app import app

    if filled.online.type == "redis":
        pytest.skip("the command finds the store in its settings; the embedded one is enough here")
    shown = CliRunner().invoke(app, ["--home", str(filled.home), "online", "rebuild", "--as-of", "2026-03-04"])
    assert shown.exit_code == 0, shown.output
    assert "long_term_interest: 0 of 6 rows written, 6 were served already" in shown.stdout
    assert "12 rows as of 2026-03-04 in " in shown.stdout
    refused = CliRunner().invoke(app, ["--home", str(filled.home), "online", "rebuild", "--as-of", "2026-3-4"])
    assert refused.exit_code == 2
