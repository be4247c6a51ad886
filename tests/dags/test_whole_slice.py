"""The whole slice on real logs, every step a task of the real scheduler: Airflow is started, asked, and stopped."""

import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import polars as pl
import psutil
import pytest

from pipeline.errors import EngineFailure
from pipeline.partitions import Day, Week, utc_now
from pipeline.settings import Settings
from pipeline.stack import processes
from pipeline.stack.airflow_api import AirflowApi
from pipeline.stack.embedded import start_airflow
from pipeline.stack.restate import DAILY, ROOT, WEEKLY, restate
from pipeline.stack.sample import fetch_sample

FIRST, HISTORY_ENDS, WEEK = Day.parse("1998-03-02"), Day.parse("1998-04-12"), Week.of(Day.parse("1998-04-13"))
ITEMS = 120

SETTINGS = """
[quality]
unexpected_empty_day = "publish"
[evaluation]
test_days = 7
validation_days = 7
bootstrap_samples = 100
[gate]
beats_popularity = false
[training]
max_epochs = 2
[training.model]
dim = 16
layers = 1
feed_forward = 32
[airflow]
parallelism = 2
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def log(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Seven weeks of the most popular films of MovieLens 100K, as they were published."""
    try:
        sample = fetch_sample(Settings.load(home=Path(pytestconfig.cache.mkdir("movielens"))))
    except EngineFailure as failure:
        pytest.skip(str(failure))
    events = pl.read_csv(sample.events, separator="\t")
    time = pl.col("timestamp:float")
    recent = events.filter(time >= FIRST.start.timestamp(), time < WEEK.end.timestamp())
    popular = recent["item_id:token"].value_counts().top_k(ITEMS, by="count")["item_id:token"]
    folder = tmp_path_factory.mktemp("log")
    recent.filter(pl.col("item_id:token").is_in(popular.implode())).write_csv(folder / "slice.inter", separator="\t")
    head, *items = sample.items.read_text().splitlines()
    kept = [line for line in items if int(line.split("\t")[0]) in set(popular)]
    (folder / "slice.item").write_text("\n".join([head, *kept]) + "\n")
    return folder / "slice.inter", folder / "slice.item"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("slice") / "home"
    home.mkdir()
    (home / "settings.toml").write_text(f"{SETTINGS}port = {free_port()}\n")
    return Settings.load(home=home)


@pytest.fixture(scope="module")
def airflow(settings: Settings, log: tuple[Path, Path]):
    """A home with its history and first models, and an Airflow that is up."""
    from pipeline.events.mapping import load_mapping
    from pipeline.steps import collaborative_filter, interest_evolution
    from pipeline.steps.history import restate_history
    from pipeline.steps.item_text import embed_items
    from pipeline.steps.log_loading import load_logs
    from pipeline.steps.preparation import prepare_stores

    load_logs(*log, load_mapping("movielens-100k"), settings, utc_now())
    prepare_stores(settings)
    restate_history(FIRST, HISTORY_ENDS, settings, utc_now())
    embed_items(settings, utc_now())
    interest_evolution.train_interest_model(HISTORY_ENDS.end, settings, utc_now())
    interest_evolution.gate_interest_model(HISTORY_ENDS.end, settings, utc_now())
    collaborative_filter.train_collaborative_filter(HISTORY_ENDS.end, settings, utc_now())
    collaborative_filter.gate_collaborative_filter(HISTORY_ENDS.end, settings, utc_now())
    assert start_airflow(settings, print)
    assert not start_airflow(settings, print), "it was up, so nothing is to be started"
    started = [member for process in processes.running(settings).values() for member in processes.family_of(process)]
    yield AirflowApi(settings)
    processes.stop(settings)
    assert not [p for p in started if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope="module")
def restated(airflow: AirflowApi):
    return restate(airflow, WEEK.days[0], WEEK.days[-1])


def versions(settings: Settings) -> dict[str, int | None]:
    from pipeline.contracts import TABLES
    from pipeline.stores.tables import Lake

    lake = Lake.of(settings)
    return {table.name: lake.version(table) for table in TABLES}


def test_a_backfill_of_the_root_runs_every_dag_for_every_day_and_each_model_once(airflow, restated):
    runs = [(run["dag_id"], run["partition_key"]) for run in airflow.runs() if run["state"] == "success"]
    daily = [(dag_id, day.key) for dag_id in DAILY for day in WEEK.days]
    assert sorted(runs) == sorted(daily + [(dag_id, WEEK.key) for dag_id in WEEKLY])
    assert restated.left == 0


def test_days_are_built_in_order(airflow, restated):
    for dag_id in DAILY:
        began = sorted((run["start_date"], run["partition_key"]) for run in airflow.runs(dag_id))
        assert [key for _, key in began] == [day.key for day in WEEK.days], dag_id


def test_every_row_of_the_week_is_accounted_for(settings, restated):
    from pipeline.stores.ledger import Ledger

    lines = {line.partition: line.counts for line in Ledger(settings.ledger_url).partitions("behavior_events")}
    for day in WEEK.days:
        counts = lines[day.key]
        assert counts["read"] == counts["published"] + counts["quarantined"] + counts["duplicates"]
    assert sum(lines[day.key]["published"] for day in WEEK.days) > 100


def test_each_model_has_one_version_for_each_cutoff(settings, restated):
    from pipeline.stores.registry import Registry

    for model in WEEKLY:
        found = sorted(version.model_cutoff for version in Registry(settings).versions(model))
        assert found == [HISTORY_ENDS.end, WEEK.end]


def test_a_user_of_the_week_is_served(settings, restated):
    from pipeline.contracts import LONG_TERM_INTEREST
    from pipeline.serving.lookup import look_up
    from pipeline.serving.recommend import recommend
    from pipeline.stores.tables import Lake

    user = Lake.of(settings).read(LONG_TERM_INTEREST, WEEK.days[-1])["user_id"][0]
    assert look_up(settings, user, "ranking_v1", utc_now()).status == "stale"  # the log is old
    assert recommend(settings, [user], 5, utc_now()).rows.height == 5


def test_a_backfill_of_a_day_is_told_from_dag_to_dag_and_changes_nothing(settings, airflow, restated):
    from pipeline.stores.backfills import BackfillRecord, Backfills
    from pipeline.stores.ledger import Ledger

    day, before = WEEK.days[2], versions(settings)
    facts = {"first": day.key, "last": day.key, "days": [day.key], "tables": [], "started_at": utc_now()}
    record = BackfillRecord(plan_id="told", reason="a test", state="running", **facts)
    Backfills(Ledger(settings.ledger_url)).write(record)
    restate(airflow, day, day, again=True, backfill=record.plan_id)
    assert versions(settings) == before
    told = [event["name"] for event in airflow.asset_events() if event["extra"].get("backfill") == record.plan_id]
    assert sorted(told) == ["behavior_events", "long_term_interest", "recommendations", "sequence_features"]
    again = [run for run in airflow.runs("recommendations") if run["partition_key"] == WEEK.days[2].key]
    assert len(again) == 2


def let_a_night_pass(settings: Settings, airflow: AirflowApi, day: Day) -> None:
    """Let the scheduler find the run of the root due that the midnight after `day` would have brought."""
    due = "UPDATE dag SET next_dagrun_create_after = ?, next_dagrun_partition_date = ?, next_dagrun_partition_key = ? "
    moments = [f"{moment:%Y-%m-%d %H:%M:%S}.000000" for moment in (day.end, day.start)]

    def has_begun() -> bool:
        if airflow.runs(ROOT, run_type="scheduled"):
            return True
        with closing(sqlite3.connect(settings.place("airflow/airflow.db"), timeout=30)) as database, database:
            database.execute(f"{due} WHERE dag_id = ?", (*moments, day.key, ROOT))
        return False  # Reading the Dag files anew takes it back: what runs on request has no midnight.

    assert processes.wait_until(has_begun, 60)


def test_a_night_makes_the_day_of_a_late_file_again_and_everything_below_it(settings, airflow, restated):
    from pipeline.contracts import BEHAVIOR_EVENTS, SEQUENCE_FEATURES
    from pipeline.stores.landing import Landing
    from pipeline.stores.tables import Lake

    lake, late, night = Lake.of(settings), WEEK.days[3], WEEK.days[-1]
    events, before = lake.read(BEHAVIOR_EVENTS, late), {run["dag_run_id"] for run in airflow.runs()}
    Landing.of(settings).put(late, "late", events.head(1).with_columns(event_id=pl.lit("late")))
    known = lake.current(SEQUENCE_FEATURES, late, late).select(pl.col("num_events").sum()).collect().item()
    let_a_night_pass(settings, airflow, night)
    wanted = [(ROOT, night.key), *((dag_id, day.key) for dag_id in DAILY[1:] for day in (late, night))]

    def done() -> list[tuple[str, str]]:
        runs = [run for run in airflow.runs() if run["dag_run_id"] not in before and run["state"] == "success"]
        return sorted((run["dag_id"], run["partition_key"]) for run in runs)

    assert processes.wait_until(lambda: len(done()) >= len(wanted), 180)
    assert done() == sorted(wanted)
    assert lake.read(BEHAVIOR_EVENTS, late).height == events.height + 1
    standing = lake.current(SEQUENCE_FEATURES, late, late).select(pl.col("num_events").sum()).collect().item()
    assert standing == known + 1
