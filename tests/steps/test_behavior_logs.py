"""From landing files to published days: whole or not at all, every row accounted for, twice the same as once."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as tries
from hypothesis import strategies as st

from pipeline.contracts import BEHAVIOR_EVENTS, ITEMS, QUARANTINED_EVENTS
from pipeline.errors import ContractViolation, EngineFailure, LogsMissing, NotFound, UnreadableFile
from pipeline.partitions import Day, days_between
from pipeline.settings import Logs, Quality, Settings
from pipeline.settings.data import Thresholds
from pipeline.steps.behavior_logs import landing_days, publish_events, publish_history, replay_quarantine
from pipeline.stores.landing import Landing
from pipeline.stores.ledger import Ledger
from pipeline.stores.tables import Lake

DAY = Day.parse("2026-03-01")
LATER = datetime(2026, 6, 1, tzinfo=UTC)
pytestmark = pytest.mark.usefixtures("ledger")


def good(number: int, day: Day = DAY, **changes) -> dict:
    return {
        "event_id": f"{day}-{number}",
        "user_id": f"u{number % 7}",
        "item_id": f"i{number % 11}",
        "event_type": "view",
        "event_time": (day.start + timedelta(minutes=number)).isoformat(),
        "value": None,
        "ingested_at": day.end.isoformat(),
        **changes,
    }


def deliver(settings: Settings, rows: list[dict], day: Day = DAY, name: str = "a.parquet") -> Path:
    place = settings.landing_path / "behavior_events" / day.key / name
    place.parent.mkdir(parents=True, exist_ok=True)
    schema = {name: pl.String() for name in good(0)}
    frame = pl.DataFrame(rows, schema=schema)
    frame.write_parquet(place) if name.endswith("parquet") else frame.write_csv(place)
    return place


def versions(lake: Lake) -> tuple:
    return lake.version(BEHAVIOR_EVENTS), lake.version(QUARANTINED_EVENTS)


def with_quality(settings: Settings, **quality) -> Settings:
    return settings.model_copy(update={"quality": Quality(**quality)})


def test_a_day_is_published_and_every_row_is_accounted_for(settings, lake, ledger, known_at):
    deliver(settings, [*[good(n) for n in range(40)], good(3), good(4, item_id="other")])
    deliver(settings, [good(50, user_id=None), good(51, event_type="like"), good(52)], name="b.csv")
    published = publish_events(DAY, settings, known_at)
    assert (published.read, published.published, published.quarantined) == (45, 41, 2)
    assert (published.duplicates, published.conflicts, published.unknown_items) == (2, 1, 41)
    assert published.reasons == {"event_type_not_allowed": 1, "user_id_missing": 1}
    assert any("duplicate" not in warning and "refused_share" in warning for warning in published.warnings)
    assert lake.read(BEHAVIOR_EVENTS, DAY).height == 41
    quarantined = lake.read(QUARANTINED_EVENTS, DAY)
    assert quarantined["source_file"].unique().to_list() == ["behavior_events/2026-03-01/b.csv"]
    assert quarantined["contract_version"].unique().to_list() == [BEHAVIOR_EVENTS.version]
    assert '"event_type":"like"' in "".join(quarantined["raw"])
    record = ledger.partition(BEHAVIOR_EVENTS.name, DAY.key)
    assert record.state == "published" and record.counts["quarantined"] == 2 and record.version == published.version
    assert ledger.partition(QUARANTINED_EVENTS.name, DAY.key).counts == {"rows": 2}
    assert (settings.place("data_docs") / "pages" / "index.html").is_file()


def test_a_day_published_twice_is_the_same_as_once(settings, lake, ledger, known_at):
    deliver(settings, [*[good(n) for n in range(40)], good(50, user_id=None)])
    first = publish_events(DAY, settings, known_at)
    state, records = versions(lake), ledger.partitions()
    second = publish_events(DAY, settings, LATER)
    assert first.changed and not second.changed
    assert versions(lake) == state and ledger.partitions() == records
    assert second.model_copy(update={"changed": True}) == first


def test_a_late_row_replaces_the_day_and_only_that_day(settings, lake, known_at):
    for day in (DAY, DAY.plus(1)):
        deliver(settings, [good(n, day) for n in range(5)], day)
        publish_events(day, settings, known_at)
    before = lake.read(BEHAVIOR_EVENTS, DAY.plus(1))
    deliver(settings, [good(9)], name="late.parquet")
    assert publish_events(DAY, settings, LATER).published == 6
    assert lake.read(BEHAVIOR_EVENTS, DAY.plus(1)).equals(before)


def test_a_day_that_was_not_delivered_is_missing_and_worth_a_retry(settings, lake, ledger, known_at):
    with pytest.raises(LogsMissing, match="_no_events") as missing:
        publish_events(DAY, settings, known_at)
    assert missing.value.retry
    assert versions(lake) == (None, None) and ledger.partitions() == []


@pytest.mark.parametrize("how", ["marker", "date", "weekday"])
def test_an_expected_empty_day_is_marked_as_such(settings, lake, ledger, known_at, how):
    if how == "marker":
        place = settings.landing_path / "behavior_events" / DAY.key / "_no_events"
        place.parent.mkdir(parents=True)
        place.touch()
    else:
        settings = with_quality(settings, expected_empty_days=(DAY.key if how == "date" else "Sunday",))
    published = publish_events(DAY, settings, known_at)
    assert (published.state, published.read) == ("empty", 0)
    assert ledger.partition(BEHAVIOR_EVENTS.name, DAY.key).state == "empty"


def test_an_unexpected_empty_day_fails_and_the_old_day_stands(settings, lake, ledger, known_at):
    deliver(settings, [good(n) for n in range(5)])
    publish_events(DAY, settings, known_at)
    state = versions(lake)
    deliver(settings, [])
    with pytest.raises(ContractViolation, match="not expected to be empty"):
        publish_events(DAY, settings, LATER)
    assert versions(lake) == state and lake.read(BEHAVIOR_EVENTS, DAY).height == 5
    assert ledger.partition(BEHAVIOR_EVENTS.name, DAY.key).state == "failed"
    lenient = with_quality(settings, unexpected_empty_day="publish")
    assert publish_events(DAY, lenient, LATER).state == "empty"
    assert lake.read(BEHAVIOR_EVENTS, DAY).is_empty()


def test_too_many_refused_rows_stop_the_day_with_the_reason(settings, lake, ledger, known_at):
    deliver(settings, [good(n, user_id=None if n % 2 else "u") for n in range(40)])
    with pytest.raises(ContractViolation) as stopped:
        publish_events(DAY, settings, known_at)
    message = str(stopped.value)
    assert "refused_share 0.5 (limit 0.3)" in message and "user_id_missing (20)" in message
    assert "Nothing was published" in message
    assert versions(lake) == (None, None)
    assert ledger.partition(BEHAVIOR_EVENTS.name, DAY.key).details["failures"] == [message]
    tolerant = with_quality(settings, refused_share=Thresholds(warn=0.1, fail=0.9))
    assert publish_events(DAY, tolerant, known_at).published == 20


def test_a_renamed_column_stops_the_day_before_any_write(settings, lake, known_at):
    place = deliver(settings, [good(1)])
    pl.read_parquet(place).rename({"user_id": "uid"}).write_parquet(place)
    with pytest.raises(ContractViolation, match="user_id: expected String, found no such column"):
        publish_events(DAY, settings, known_at)
    assert versions(lake) == (None, None)


def test_an_extra_column_is_a_warning(settings, known_at):
    place = deliver(settings, [good(1)])
    pl.read_parquet(place).with_columns(pl.lit("UK").alias("country")).write_parquet(place)
    assert any("country" in warning for warning in publish_events(DAY, settings, known_at).warnings)


def test_an_unreadable_file_stops_the_day_or_is_counted_as_the_settings_say(settings, lake, known_at):
    deliver(settings, [good(n) for n in range(5)])
    cut = deliver(settings, [good(9)], name="b.parquet")
    cut.write_bytes(cut.read_bytes()[:-20])
    with pytest.raises(UnreadableFile, match=r"b\.parquet is truncated"):
        publish_events(DAY, settings, known_at)
    assert versions(lake) == (None, None)
    lenient = settings.model_copy(update={"logs": Logs(unreadable_file="skip")})
    published = publish_events(DAY, lenient, known_at)
    assert (published.published, published.unreadable_files) == (5, 1)
    assert any("b.parquet" in warning for warning in published.warnings)


def test_a_broken_engine_is_not_told_as_bad_data(settings, lake, ledger, known_at):
    deliver(settings, [good(n) for n in range(5)])
    # Data Docs cannot be written: a file stands where the folder should be.
    settings.place("data_docs").write_text("in the way")
    with pytest.raises(EngineFailure) as broken:
        publish_events(DAY, settings, known_at)
    assert broken.value.retry
    assert versions(lake) == (None, None)
    assert ledger.partitions() == []


def test_a_replay_publishes_what_a_corrected_setting_accepts(settings, lake, known_at):
    deliver(settings, [good(n) for n in range(20)] + [good(30, event_type="like"), good(31, user_id=None)])
    publish_events(DAY, settings, known_at)
    allowing = settings.model_copy(update={"logs": Logs(event_weights={"view": 1.0, "like": 2.0})})
    replayed = replay_quarantine(DAY, allowing, LATER)
    assert (replayed.published, replayed.quarantined) == (21, 1)


def test_a_replay_works_when_the_landing_files_are_gone(settings, lake, known_at):
    place = deliver(settings, [good(n) for n in range(20)] + [good(30, event_type="like"), good(31, user_id=None)])
    publish_events(DAY, settings, known_at)
    place.unlink()
    allowing = settings.model_copy(update={"logs": Logs(event_weights={"view": 1.0, "like": 2.0})})
    for _ in range(2):
        replayed = replay_quarantine(DAY, allowing, LATER)
        assert (replayed.published, replayed.quarantined, replayed.duplicates) == (21, 1, 0)
    assert lake.read(QUARANTINED_EVENTS, DAY)["source_row"].to_list() == [21]
    with pytest.raises(NotFound, match="nothing is quarantined"):
        replay_quarantine(DAY.plus(1), settings, LATER)


def history(settings: Settings) -> list[Day]:
    """Seven days: the second is closed, the fourth and fifth flood, the sixth never came.

    The floods fail. Were they history all the same, the last day would look small beside them.
    """
    days = list(days_between(DAY, DAY.plus(6)))
    for number, day in enumerate(days):
        rows = [good(n, day) for n in range(60)] + [good(3, day), good(99, day, item_id=" ")]
        if number in (3, 4):
            rows += [good(n, day) for n in range(200, 1400)]
        if number == 1:
            Landing(settings.landing_path).say_empty(day, "shop", "closed")
        elif number != 5:
            deliver(settings, rows, day)
    return days


def test_a_history_in_one_pass_equals_its_days_one_by_one(settings, home, known_at):
    settings = with_quality(settings, least_history=2, volume_rise=Thresholds(warn=0.5, fail=20))
    days = history(settings)
    other = settings.model_copy(update={"home": home.with_name("other")})
    Ledger(other.ledger_url).migrate()
    other.landing_path.parent.mkdir(parents=True, exist_ok=True)
    other.landing_path.symlink_to(settings.landing_path)
    together = publish_history(days[0], days[-1], settings, known_at)
    one_by_one, failed = [], {}
    for day in days:
        try:
            one_by_one.append(publish_events(day, other, known_at))
        except (ContractViolation, LogsMissing) as error:
            failed[day.key] = str(error)
    assert set(together.failed) == set(failed) == {days[3].key, days[4].key, days[5].key}
    clocks = {"version", "quarantine_version", "changed"}
    assert together.days[-1].warnings, "the last day is compared with the days before it that were published"
    assert [d.model_dump(exclude=clocks) for d in together.days] == [d.model_dump(exclude=clocks) for d in one_by_one]
    lakes = [Lake(s.lake_url) for s in (settings, other)]
    for table in (BEHAVIOR_EVENTS, QUARANTINED_EVENTS):
        left, right = (lake.scan(table).sort(table.key).collect() for lake in lakes)
        assert left.equals(right)
    states = [{r.partition: r.state for r in Ledger(s.ledger_url).partitions(BEHAVIOR_EVENTS.name)}
              for s in (settings, other)]
    assert states[0] == states[1]
    assert together.total("read") == together.total("published") + together.total("quarantined") + together.total(
        "duplicates"
    )


def test_a_history_is_one_commit_and_a_second_pass_changes_nothing(settings, lake, ledger, known_at):
    for number in range(5):
        deliver(settings, [good(n, DAY.plus(number)) for n in range(10)], DAY.plus(number))
    assert publish_history(DAY, DAY.plus(4), settings, known_at).changed
    assert versions(lake) == (0, 0)
    records = ledger.partitions()
    assert not publish_history(DAY, DAY.plus(4), settings, LATER).changed
    assert versions(lake) == (0, 0) and ledger.partitions() == records


def test_a_failed_day_in_a_history_keeps_what_it_held(settings, lake, known_at):
    days = [DAY, DAY.plus(1), DAY.plus(2)]
    for day in days:
        deliver(settings, [good(n, day) for n in range(10)], day)
    publish_history(days[0], days[-1], settings, known_at)
    for day in days:
        deliver(settings, [good(n, day, user_id=None if day == days[1] else "new") for n in range(10)], day)
    outcome = publish_history(days[0], days[-1], settings, LATER)
    assert list(outcome.failed) == [days[1].key]
    assert "new" not in lake.read(BEHAVIOR_EVENTS, days[1])["user_id"].to_list()
    assert lake.read(BEHAVIOR_EVENTS, days[1]).height == 10
    assert lake.read(BEHAVIOR_EVENTS, days[2])["user_id"].unique().to_list() == ["new"]


def test_landing_days_are_those_delivered(settings):
    deliver(settings, [good(1)])
    deliver(settings, [good(1, DAY.plus(2))], DAY.plus(2))
    (settings.landing_path / "behavior_events" / "2026-03-02").mkdir()
    (settings.landing_path / "behavior_events" / "tmp").mkdir()
    assert landing_days(settings) == [DAY, DAY.plus(2)]


def test_an_item_outside_the_catalogue_is_kept_and_counted(settings, lake, known_at):
    known = pl.DataFrame([("i1", "One", [], DAY.start)], schema=ITEMS.schema, orient="row")
    lake.overwrite(ITEMS, known)
    deliver(settings, [good(1), good(2)])
    published = publish_events(DAY, settings, known_at)
    assert (published.published, published.unknown_items) == (2, 1)


WORDS = st.sampled_from(
    [None, "", "u1", "x" * 300, "<script>", "view", "like", "nan", "1e999", "7", "2026-03-01T09:00:00Z", "soon", "\x07"]
)
ROW = st.fixed_dictionaries({"event_id": st.sampled_from([None, "e1", "e2", "e3"])}, optional=dict.fromkeys(
    ["user_id", "item_id", "event_type", "event_time", "value", "ingested_at"], WORDS
))


@given(rows=st.lists(ROW, min_size=1, max_size=15))
@tries(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.generate],
)
def test_rows_in_are_published_or_quarantined_or_duplicates(settings, lake, known_at, rows):
    anything = Thresholds(warn=1.0, fail=1.0)
    settings = with_quality(
        settings, refused_share=anything, duplicate_share=anything, unexpected_empty_day="publish"
    )
    deliver(settings, [good(n, **row) for n, row in enumerate(rows)])
    published = publish_events(DAY, settings, known_at)
    assert published.read == len(rows)
    assert published.published == lake.read(BEHAVIOR_EVENTS, DAY).height
    quarantined = lake.read(QUARANTINED_EVENTS, DAY)
    assert published.quarantined == quarantined.height
    assert published.read == published.published + published.quarantined + published.duplicates
    assert quarantined["reason"].null_count() == 0
