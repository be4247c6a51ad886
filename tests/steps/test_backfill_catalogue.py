"""A catalogue that gives other categories makes the days stale from which it does, in the one table made from it."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pipeline.contracts import BEHAVIOR_EVENTS, INTEREST_WINDOWS, ITEMS
from pipeline.partitions import Day
from pipeline.settings import Settings
from pipeline.steps.backfill_plan import plan_backfill
from pipeline.steps.history import restate_history
from pipeline.stores.landing import Landing
from pipeline.stores.ledger import Ledger
from pipeline.stores.tables import Lake

FIRST, SECOND, THIRD = (Day.parse("2026-03-02").plus(number) for number in range(3))
NOW = datetime(2026, 4, 1, 12, tzinfo=UTC)


def describe(lake: Lake, *rows: tuple[str, str, list[str], datetime]) -> None:
    lake.overwrite(ITEMS, pl.DataFrame(list(rows), schema=ITEMS.schema, orient="row"))


@pytest.fixture
def built(settings: Settings, ledger: Ledger, lake: Lake) -> Lake:
    for day in (FIRST, SECOND, THIRD):
        row = (f"e{day}", "anna", "i1", "view", day.start + timedelta(hours=1), None, day.end)
        Landing.of(settings).put(day, "log", pl.DataFrame([row], BEHAVIOR_EVENTS.schema, orient="row"))
    describe(lake, ("i1", "one", ["tea"], FIRST.start))
    restate_history(FIRST, THIRD, settings, NOW, push=False)
    return lake


def stale(settings: Settings) -> dict[tuple[str, str], str]:
    plan = plan_backfill(FIRST, THIRD, settings)
    return {(partition.table, partition.day): " ".join(partition.reasons) for partition in plan.partitions}


def test_other_categories_are_seen_from_the_day_on_which_they_hold_until_the_days_are_made_again(built, settings):
    assert stale(settings) == {}
    describe(built, ("i1", "one", ["tea"], FIRST.start), ("i1", "one", ["coffee"], SECOND.start))
    found = stale(settings)
    assert list(found) == [(INTEREST_WINDOWS.name, SECOND.key), (INTEREST_WINDOWS.name, THIRD.key)]
    assert all("items" in why for why in found.values())
    restate_history(SECOND, THIRD, settings, NOW + timedelta(hours=1), push=False)
    assert stale(settings) == {}
    newest = built.current(INTEREST_WINDOWS, THIRD).collect()
    assert "coffee" in str(newest.to_dicts())


def test_another_title_and_an_item_of_later_change_no_day(built, settings):
    later = THIRD.plus(1).start
    describe(built, ("i1", "a better title", ["tea"], FIRST.start), ("i2", "two", ["juice"], later))
    assert stale(settings) == {}


def test_a_day_that_was_built_before_the_catalogue_was_noted_is_not_taken_for_stale(built, settings, ledger):
    line = ledger.partition(INTEREST_WINDOWS.name, SECOND.key)
    upstream = {name: content for name, content in line.details["upstream"].items() if name != ITEMS.name}
    ledger.record_partition(line.model_copy(update={"details": line.details | {"upstream": upstream}}))
    assert stale(settings) == {}
