"""Any log comes through the mapping into its days, every row of it; loading it twice is loading it once."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from pipeline.contracts import BEHAVIOR_EVENTS, ITEM_VECTORS, ITEMS, QUARANTINED_EVENTS
from pipeline.errors import BadMapping, UnreadableFile
from pipeline.events.mapping import Mapping, load_mapping
from pipeline.partitions import Day
from pipeline.settings import Settings
from pipeline.steps.behavior_logs import PublishedHistory, landing_days, load_logs, publish_events, publish_history

LATER = datetime(2026, 6, 1, tzinfo=UTC)
RATINGS = "userId,movieId,rating,timestamp\n1,10,4.0,1772323200\n2,20,3.5,1772323260\n1,20,5.0,1772582400\n"
MOVIES = "movieId,title,genres\n10,Toy Story (1995),Comedy|Fantasy\n20,Heat,(no genres listed)\n30,Never seen,Drama\n"
MOVIELENS = load_mapping("movielens")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    ratings, movies = tmp_path / "ratings.csv", tmp_path / "movies.csv"
    ratings.write_text(RATINGS)
    movies.write_text(MOVIES)
    return ratings, movies


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def publish_all(settings: Settings, known_at: datetime) -> PublishedHistory:
    days = landing_days(settings)
    return publish_history(days[0], days[-1], settings, known_at)


def test_rows_land_in_their_days_and_a_closed_day_is_marked(settings, lake, ledger, files, known_at):
    known_at = LATER
    loaded = load_logs(*files, MOVIELENS, settings, known_at)
    assert (loaded.rows, loaded.first_day, loaded.last_day, loaded.days) == (3, "2026-03-01", "2026-03-04", 4)
    assert loaded.days_without_events == 2 and loaded.items == 3 and loaded.changed
    assert landing_days(settings) == [Day.parse("2026-03-01").plus(n) for n in range(4)]
    history = publish_all(settings, known_at)
    assert not history.failed and history.total("published") == 3
    assert [day.state for day in history.days] == ["published", "empty", "empty", "published"]
    events = lake.scan(BEHAVIOR_EVENTS).collect().sort("event_time")
    assert events["value"].to_list() == [4.0, 3.5, 5.0]
    assert events["ingested_at"].unique().to_list() == [LATER]
    items = lake.scan(ITEMS).collect().sort("item_id")
    assert items["categories"].to_list() == [["Comedy", "Fantasy"], [], ["Drama"]]
    assert items["valid_from"].dt.date().cast(pl.String).to_list() == ["2026-03-01", "2026-03-01", "2026-03-04"]


def test_loading_twice_changes_no_byte(settings, lake, files):
    load_logs(*files, MOVIELENS, settings, LATER)
    before, version = contents(settings.landing_path), lake.version(ITEMS)
    again = load_logs(*files, MOVIELENS, settings, datetime(2026, 7, 1, tzinfo=UTC))
    assert not again.changed
    assert contents(settings.landing_path) == before and lake.version(ITEMS) == version


def test_a_corrected_mapping_moves_the_rows_and_leaves_none_behind(settings, files):
    wrong = MOVIELENS.model_dump(by_alias=True)
    wrong["events"]["columns"]["event_time"] = "rating"
    wrong["events"]["time"] = {"format": "%Y-%m-%d"}
    with pytest.raises(BadMapping, match=r"no row has a plausible time; the first is '4\.0'"):
        load_logs(*files, Mapping.model_validate(wrong), settings, LATER)
    assert landing_days(settings) == []
    ratings = files[0]
    ratings.write_text("userId,movieId,rating,timestamp\n1,10,4.0,01-02-2026\n1,10,4.0,03-02-2026\n")
    local = MOVIELENS.model_dump(by_alias=True)
    for order, days in (("%m-%d-%Y", 60), ("%d-%m-%Y", 3)):
        local["events"]["time"] = {"format": order}
        load_logs(ratings, None, Mapping.model_validate(local), settings, LATER)
        assert len(landing_days(settings)) == days, "no file and no mark of the wrong mapping stays"


def test_a_longer_log_of_the_same_path_adds_its_rows_once(settings, lake, ledger, files):
    load_logs(*files, MOVIELENS, settings, LATER)
    files[0].write_text(RATINGS + "3,10,1.0,1772582401\n")
    loaded = load_logs(*files, MOVIELENS, settings, LATER)
    assert len(loaded.earlier_loads) == 1
    history = publish_all(settings, LATER)
    assert (history.total("published"), history.total("duplicates"), history.total("conflicts")) == (4, 3, 0)


def test_a_corrected_file_takes_the_earlier_one_back_when_asked(settings, lake, ledger, files):
    load_logs(*files, MOVIELENS, settings, LATER)
    files[0].write_text(RATINGS.replace("4.0", "1.0"))
    load_logs(*files, MOVIELENS, settings, LATER, replace=True)
    history = publish_all(settings, LATER)
    assert (history.total("published"), history.total("duplicates")) == (3, 0)
    assert 4.0 not in lake.scan(BEHAVIOR_EVENTS).collect()["value"].to_list()


def test_rows_whose_time_cannot_be_read_are_quarantined_and_not_lost(settings, lake, ledger, files):
    bad = "7,10,4.0,soon\n8,10,4.0,\n9,10,4.0,0\n9,10,4.0,4102444800\n"
    good = "".join(f"{n},10,3.0,{1772582400 + n}\n" for n in range(20))
    files[0].write_text(RATINGS + good + bad)
    loaded = load_logs(*files, MOVIELENS, settings, LATER)
    assert (loaded.rows, loaded.unreadable_times, loaded.last_day) == (27, 4, "2026-03-04")
    history = publish_all(settings, LATER)
    assert (history.total("published"), history.total("quarantined")) == (23, 4)
    quarantined = lake.scan(QUARANTINED_EVENTS).collect()
    assert sorted(quarantined["reason"]) == [
        "event_time_missing", "event_time_out_of_range", "event_time_outside_day", "event_time_unparsable"
    ]


def test_a_log_without_a_row_is_refused(settings, tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text("userId,movieId,rating,timestamp\n")
    with pytest.raises(UnreadableFile, match="a header and no row"):
        load_logs(path, None, MOVIELENS, settings, LATER)


def test_a_wrong_column_or_a_needless_items_file_loads_nothing(settings, lake, files, tmp_path):
    files[1].write_text("id,title\n1,x\n")
    with pytest.raises(BadMapping, match=r"movies\.csv has no column 'genres', 'movieId'"):
        load_logs(*files, MOVIELENS, settings, LATER)
    with pytest.raises(BadMapping, match="has no `items:`"):
        load_logs(files[0], files[1], load_mapping("otto"), settings, LATER)
    assert not settings.landing_path.exists() and lake.version(ITEMS) is None


@pytest.mark.shared_data
def test_movielens_passes_whole(settings, lake, ledger, shared_data):
    folder = shared_data / "ml-latest-small"
    loaded = load_logs(folder / "ratings.csv", folder / "movies.csv", MOVIELENS, settings, LATER)
    assert (loaded.rows, loaded.items, loaded.unreadable_times) == (100_836, 9_742, 0)
    assert (loaded.first_day, loaded.last_day) == ("1996-03-29", "2018-09-24")
    published = publish_events(Day.parse("2018-09-24"), settings, LATER)
    assert published.read == published.published > 0 and published.unknown_items == 0


@pytest.mark.shared_data
def test_otto_passes_whole(settings, lake, ledger, shared_data):
    loaded = load_logs(shared_data / "otto-fixture" / "train.jsonl", None, load_mapping("otto"), settings, LATER)
    assert loaded.rows == 862
    history = publish_all(settings, LATER)
    assert not history.failed and history.total("published") == 862
    types = dict(lake.scan(BEHAVIOR_EVENTS).collect()["event_type"].value_counts().iter_rows())
    assert types == {"view": 800, "cart": 52, "purchase": 10}


@pytest.mark.shared_data
def test_every_row_of_online_retail_is_accounted_for(settings, lake, ledger, shared_data):
    path = shared_data / "online-retail" / "online_retail.parquet"
    loaded = load_logs(path, None, load_mapping("online-retail"), settings, LATER)
    assert loaded.rows == 541_909
    assert loaded.refused_by_mapping == {"mapping:no_customer": 134_084, "mapping:not_an_item": 2_912}
    history = publish_all(settings, LATER)
    assert not history.failed
    assert history.total("read") == 541_909
    counted = history.total("published"), history.total("quarantined"), history.total("duplicates")
    assert counted == (399_693, 136_996, 5_220) and sum(counted) == 541_909
    assert history.total("unknown_items") == 0
    events = lake.scan(BEHAVIOR_EVENTS).select("event_type", "value").collect()
    assert events.filter(pl.col("event_type") == "cancellation")["value"].max() <= 0
    assert "unknown" not in lake.scan(ITEMS).collect()["title"].to_list()
    quarantined = lake.scan(QUARANTINED_EVENTS).select("reason").collect()["reason"].value_counts()
    assert dict(quarantined.iter_rows()) == loaded.refused_by_mapping


def test_vectors_of_items_land_beside_them_and_reach_a_training(settings, lake, ledger, files, tmp_path):
    """Nothing is known of an item before its first event, of its picture neither."""
    ratings, movies = files
    shown = pl.read_csv(movies, infer_schema=False).with_columns(look=pl.Series(["1 0 0", "0 1 0", None]))
    shown.write_csv(tmp_path / "shown.csv")
    columns = MOVIELENS.items.columns.model_copy(update={"vectors": {"image": "look"}})
    mapping = MOVIELENS.model_copy(update={"items": MOVIELENS.items.model_copy(update={"columns": columns})})
    loaded = load_logs(ratings, tmp_path / "shown.csv", mapping, settings, LATER)
    assert loaded.changed and not load_logs(ratings, tmp_path / "shown.csv", mapping, settings, LATER).changed
    rows = lake.scan(ITEM_VECTORS).collect()
    items = lake.scan(ITEMS).collect()
    assert rows.join(items, on=["item_id", "valid_from"], how="semi").height == rows.height == 2
