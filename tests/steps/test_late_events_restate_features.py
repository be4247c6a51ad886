"""Whatever arrives late, is corrected or withdrawn: the features end as if it had been known from the start, and the
rows that it does not concern are not touched."""

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as tries
from hypothesis import strategies as st

from pipeline.contracts import BEHAVIOR_EVENTS, INTEREST_WINDOWS, ITEMS, SEQUENCE_FEATURES
from pipeline.partitions import Day
from pipeline.settings import Settings
from pipeline.steps.sequence_features import build_features, build_history
from pipeline.stores.ledger import Ledger
from pipeline.stores.tables import Lake

FIRST, DAYS, USERS, ITEM_COUNT = Day.parse("2026-03-01"), 5, "abcd", 4
BOTH = (SEQUENCE_FEATURES, INTEREST_WINDOWS)

Log = dict[tuple[int, str, int], int]
"""(day, user, hour) -> item"""

places = st.tuples(st.integers(0, DAYS - 1), st.sampled_from(USERS), st.integers(0, 2))
logs = st.dictionaries(places, st.integers(0, ITEM_COUNT - 1), min_size=6, max_size=20)
changes = st.lists(st.tuples(places, st.none() | st.integers(0, ITEM_COUNT - 1)), min_size=1, max_size=5)


def at(hour: int) -> datetime:
    return datetime(2026, 4, 1, tzinfo=UTC) + timedelta(hours=hour)


def publish(lake: Lake, log: Log, number: int) -> None:
    day = FIRST.plus(number)
    rows = [
        (f"{day}-{user}-{hour}", user, f"i{item}", "view", day.start + timedelta(hours=hour), None, day.end)
        for (n, user, hour), item in sorted(log.items())
        if n == number
    ]
    lake.replace(BEHAVIOR_EVENTS, day, pl.DataFrame(rows, BEHAVIOR_EVENTS.schema, orient="row"))


def built(folder: Path, log: Log) -> tuple[Settings, Lake]:
    """A home in which a log is published and built in one pass."""
    settings = Settings.load(home=folder)
    Ledger(settings.ledger_url).migrate()
    lake = Lake.of(settings)
    items = [(f"i{n}", f"item {n}", [f"c{n % 3}", f"c{n % 2}"], FIRST.start) for n in range(ITEM_COUNT)]
    lake.overwrite(ITEMS, pl.DataFrame(items, schema=ITEMS.schema, orient="row"))
    for number in range(DAYS):
        publish(lake, log, number)
    build_history(FIRST, FIRST.plus(DAYS - 1), settings, at(0))
    return settings, lake


@tries(
    max_examples=6,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
@given(logs, changes)
def test_late_events_end_in_the_tables_of_a_clean_run_and_touch_only_whom_they_concern(log: Log, late):
    with tempfile.TemporaryDirectory() as place:
        settings, lake = built(Path(place) / "late", log)
        before = {table: lake.scan(table).collect() for table in BOTH}
        changed = dict(log)
        concerned: set[str] = set()
        for hour, (key, item) in enumerate(late, start=1):
            if changed.get(key) != item:
                concerned.add(key[1])
            changed = {k: v for k, v in (changed | {key: item}).items() if v is not None}
            publish(lake, changed, key[0])
            build_features(FIRST.plus(key[0]), settings, at(hour))
        _, clean = built(Path(place) / "clean", changed)
        for table in BOTH:
            found, wanted = (
                one.current(table).collect().drop("created").sort(table.key) for one in (lake, clean)
            )
            assert found.equals(wanted)
            for user in set(USERS) - concerned:
                rows = [frame.filter(pl.col("user_id") == user).sort(table.key) for frame in
                        (before[table], lake.scan(table).collect())]
                assert rows[0].equals(rows[1]), "a row of somebody else was written again"
            earliest = {user: min(d for (d, u, _), _ in late if u == user) for user in concerned}
            for user, number in earliest.items():
                earlier = (pl.col("user_id") == user) & (pl.col("event_timestamp") < FIRST.plus(number).start)
                assert lake.scan(table).filter(earlier, pl.col("created") > at(0)).collect().is_empty()
