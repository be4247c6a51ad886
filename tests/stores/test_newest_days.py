"""The newest row of a user before a day, by the index and by what was written since: what a look at every row finds."""

import random
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pipeline.contracts import NEWEST_DAYS, SEQUENCE_FEATURES
from pipeline.partitions import Day
from pipeline.stores.newest_days import index_newest_days, newest_days
from pipeline.stores.single_rows import rows_at

FIRST = Day.parse("2026-03-01")
USERS = [f"u{number:02d}" for number in range(40)]
KNOWN_AT = datetime(2026, 6, 1, tzinfo=UTC)


def rows_of(day, users):
    rows = [(user, [day.key], ["view"], [day.start], 1, day.as_of, KNOWN_AT) for user in users]
    return pl.DataFrame(rows, schema=SEQUENCE_FEATURES.schema, orient="row")


def by_looking_at_all(lake, users, day):
    rows = lake.scan(SEQUENCE_FEATURES, None, day.plus(-1)).collect().join(users, on="user_id", how="semi")
    return rows.group_by("user_id").agg(pl.col("event_timestamp").max()).sort("user_id")


@pytest.mark.parametrize("seed", range(3))
def test_days_written_rewritten_and_emptied_in_any_order(lake, ledger, seed):
    chance = random.Random(seed)
    for round_ in range(12):
        day = FIRST.plus(chance.randrange(20))
        users = chance.sample(USERS, chance.choice([0, 3, 20]))
        lake.replace(SEQUENCE_FEATURES, day, rows_of(day, users))
        if round_ in (3, 8):
            index_newest_days(lake, [SEQUENCE_FEATURES])
        asked, wanted = FIRST.plus(chance.randrange(22)), pl.DataFrame({"user_id": [*chance.sample(USERS, 15), "new"]})
        found = newest_days(lake, SEQUENCE_FEATURES, wanted, asked).sort("user_id")
        assert found.equals(by_looking_at_all(lake, wanted, asked))
        rows = rows_at(lake, SEQUENCE_FEATURES, found).sort("user_id")
        assert rows.select("user_id", "event_timestamp").equals(found)
    assert lake.scan(NEWEST_DAYS).collect().height > 0


def test_the_index_is_made_anew_only_when_many_days_were_written(lake, ledger):
    def built(first, last):
        for number in range(first, last):
            day = FIRST.plus(number)
            lake.replace(SEQUENCE_FEATURES, day, rows_of(day, USERS[number : number + 3]))
        index_newest_days(lake, [SEQUENCE_FEATURES])
        return lake.version(NEWEST_DAYS)

    assert built(0, 2) == built(2, 9)
    assert built(9, 12) == 1
    lake.open(SEQUENCE_FEATURES).optimize.compact()
    found = newest_days(lake, SEQUENCE_FEATURES, pl.DataFrame({"user_id": USERS}), FIRST.plus(30))
    assert found.sort("user_id").equals(by_looking_at_all(lake, pl.DataFrame({"user_id": USERS}), FIRST.plus(30)))


def test_an_index_of_another_table_of_that_name_is_not_believed(lake, ledger):
    import shutil

    lake.replace(SEQUENCE_FEATURES, FIRST, rows_of(FIRST, USERS[:5]))
    index_newest_days(lake, [SEQUENCE_FEATURES])
    shutil.rmtree(lake.path(SEQUENCE_FEATURES))
    lake.replace(SEQUENCE_FEATURES, FIRST.plus(1), rows_of(FIRST.plus(1), USERS[:2]))
    found = newest_days(lake, SEQUENCE_FEATURES, pl.DataFrame({"user_id": USERS}), FIRST.plus(9))
    assert found["user_id"].sort().to_list() == USERS[:2]


def test_rows_are_found_in_files_of_many_groups(lake, ledger):
    users = [f"u{number:05d}" for number in range(900)]
    for number in range(2):
        day = FIRST.plus(number)
        lake.replace(SEQUENCE_FEATURES, day, rows_of(day, users[number::2]))
    keys = pl.DataFrame({"user_id": ["u00000", "u00449", "u00898", "u00899", "nobody"]}).with_columns(
        pl.lit(FIRST.as_of).alias("event_timestamp"))
    keys = keys.with_columns(pl.when(pl.col("user_id").is_in(["u00449", "u00899"])).then(
        pl.lit(FIRST.as_of + timedelta(days=1))).otherwise("event_timestamp").alias("event_timestamp"))
    assert rows_at(lake, SEQUENCE_FEATURES, keys)["user_id"].sort().to_list() == keys["user_id"].sort().to_list()[1:]
