"""
What a day of logs looks like, in a few numbers, compared with the last weeks.

One row a day, for one day or for years. A number is null where it cannot be judged: too few events, too little
history, or a log that never carries a value.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import polars as pl

from pipeline.contracts import PARTITION_COLUMN, UNCATEGORISED
from pipeline.partitions import Day
from pipeline.settings import Quality

SHARES = ("refused_share", "duplicate_share", "null_value_share")
MEASURES = (*SHARES, "volume_drop", "volume_rise", "category_drift", "freshness_hours")
"""Each has its thresholds under the same name in `settings.quality`."""


def daily_profile(events: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """Per day and category: how many events; the profile that days are compared by.

    Args:
        events: rows of BEHAVIOR_EVENTS with the partition column.
        items: ITEMS; of several descriptions of an item the newest counts.

    Returns:
        event_date, category, weight (an event of two categories counts half in each), null_values.
    """
    newest = items.sort("item_id", "valid_from").unique("item_id", keep="last")
    categories = newest.select("item_id", pl.col("categories").list.unique().alias("category"))
    per_item = events.group_by(PARTITION_COLUMN, "item_id").agg(
        pl.len().alias("rows"), pl.col("value").is_null().sum().alias("null_values")
    )
    none = pl.col("category").is_null() | (pl.col("category").list.len() == 0)
    spread = per_item.join(categories, on="item_id", how="left").with_columns(
        pl.when(none).then(pl.lit([UNCATEGORISED])).otherwise("category").alias("category")
    )
    share = pl.col("category").list.len()
    return (
        spread.with_columns((pl.col("rows") / share).alias("weight"), (pl.col("null_values") / share))
        .explode("category")
        .group_by(PARTITION_COLUMN, "category")
        .agg(pl.col("weight").sum(), pl.col("null_values").sum())
        .sort(PARTITION_COLUMN, "category")
    )


def crowded_days(events: pl.DataFrame, most: int) -> dict[str, list[str]]:
    """By partition, a warning about every user with more than `most` events on that day; nobody is named."""
    counted = events.group_by(PARTITION_COLUMN, "user_id").len().filter(pl.col("len") > most)
    found: dict[str, list[str]] = {}
    for key, rows in counted.select(PARTITION_COLUMN, "len").sort("len", descending=True).iter_rows():
        found.setdefault(key, []).append(f"{rows:,} events of one user, more than {most:,}: a robot, or a wrong id?")
    return found


def daily_measures(
    days: Sequence[Day], counts: pl.DataFrame, profile: pl.DataFrame, held: Collection[str], quality: Quality
) -> pl.DataFrame:
    """One row a day of `days`, with MEASURES and `unexpectedly_empty` (0 or 1).

    Args:
        counts: per day read, published, refused (by the contract), excluded (by the mapping), duplicates,
            last_arrival, expected_empty.
        profile: of these days and of those before them.
        held: keys of days that will not be published, and so are no history of the days after them.
    """
    history = _History(profile, set(held), quality)
    rows = []
    for count in counts.sort(PARTITION_COLUMN).iter_rows(named=True):
        day = Day.parse(count[PARTITION_COLUMN])
        judged = count["read"] - count["excluded"]
        accepted = count["published"] + count["duplicates"]
        rows.append(
            {
                PARTITION_COLUMN: day.key,
                "rows": count["published"],
                "refused_share": count["refused"] / judged if judged else None,
                "duplicate_share": count["duplicates"] / accepted if accepted else None,
                "freshness_hours": _lateness(day, count["last_arrival"], quality),
                "unexpectedly_empty": int(count["published"] == 0 and not count["expected_empty"]),
                **history.compare(day),
            }
        )
    floats = {name: pl.Float64() for name in MEASURES}
    schema = {PARTITION_COLUMN: pl.String(), "rows": pl.Int64(), **floats, "unexpectedly_empty": pl.Int64()}
    wanted = {day.key for day in days}
    return pl.DataFrame(rows, schema=schema).filter(pl.col(PARTITION_COLUMN).is_in(wanted))


def _lateness(day: Day, last_arrival, quality: Quality) -> float | None:
    """Hours from the day's end to its last row; null for history that was loaded long after."""
    if last_arrival is None:
        return None
    hours = (last_arrival - day.end).total_seconds() / 3600
    return hours if hours <= 24 * quality.history_days else None


class _History:
    """The profiles of all days as one matrix, so that a comparison costs a few vector operations."""

    def __init__(self, profile: pl.DataFrame, held: set[str], quality: Quality):
        self.quality = quality
        self.keys = profile[PARTITION_COLUMN].unique().sort().to_list()
        self.position = {key: index for index, key in enumerate(self.keys)}
        names = {name: index for index, name in enumerate(profile["category"].unique().sort())}
        self.mix = np.zeros((len(self.keys), len(names)))  # [days, categories]
        self.nulls = np.zeros(len(self.keys))
        for key, category, weight, null_values in profile.iter_rows():
            self.mix[self.position[key], names[category]] = weight
            self.nulls[self.position[key]] += null_values
        self.rows = self.mix.sum(axis=1)
        self.counts = np.array([key not in held for key in self.keys], dtype=bool) & (self.rows > 0)

    def compare(self, day: Day) -> dict[str, float | None]:
        """The measures of a day that need the days before it."""
        names = ("null_value_share", "volume_drop", "volume_rise", "category_drift")
        unknown: dict[str, float | None] = dict.fromkeys(names)
        here = self.position.get(day.key)
        rows = self.rows[here] if here is not None else 0.0
        since = day.plus(-self.quality.history_days).key
        before = np.array([since <= key < day.key for key in self.keys], dtype=bool) & self.counts
        enough = before.sum() >= self.quality.least_history
        if rows:
            never_any = before.any() and self.nulls[before].sum() == self.rows[before].sum()
            whole = self.nulls[here] >= rows - 1e-9
            unknown["null_value_share"] = None if whole and (never_any or not before.any()) else self.nulls[here] / rows
        if not enough:
            return unknown
        usual = float(np.median(self.rows[before]))
        if rows and usual >= self.quality.least_events:
            unknown["volume_drop"] = 1.0 - rows / usual
            unknown["volume_rise"] = rows / usual
        if rows >= self.quality.least_events:
            past = self.mix[before].sum(axis=0)
            unknown["category_drift"] = float(0.5 * np.abs(self.mix[here] / rows - past / past.sum()).sum())
        return unknown
