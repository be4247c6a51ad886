"""Which categories each event counts for: those that its item had at the event's time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from pipeline.contracts import UNCATEGORISED
from pipeline.features.ragged import concatenated_ranges


@dataclass(frozen=True)
class Categories:
    """The categories of every event, ragged: event `e` owns the next `num_of_event[e]` codes, at least one."""

    names: pl.Series
    """Sorted. A category's code is its position."""
    code: np.ndarray
    """int64 [parts]"""
    num_of_event: np.ndarray
    """int64 [events]"""

    def codes_of(self, names: pl.Series) -> np.ndarray:
        return self.names.search_sorted(names).to_numpy().astype(np.int64)


def categories_of(events: pl.DataFrame, items: pl.DataFrame, also: pl.Series) -> Categories:
    """The categories of `events` by the catalogue `items`; those in `also` get a code too."""
    described = items.join(events.select("item_id"), on="item_id", how="semi").sort("item_id", "valid_from")
    described = described.select("item_id", "valid_from", "categories").with_row_index("row")
    # Sorted as one column: many short lists take six times as long.
    own = described.select("row", "categories").explode("categories").drop_nulls().unique().sort("row", "categories")
    parts = own["categories"]
    names = pl.concat([parts, also.cast(pl.String), pl.Series([UNCATEGORISED])]).unique().sort().alias("categories")
    # The last description is for items that have none: uncategorised.
    num = np.bincount(own["row"].to_numpy(), minlength=described.height + 1)
    nameless = num == 0
    num[nameless] = 1
    starts = np.cumsum(num) - num
    codes = np.empty(num.sum(), dtype=np.int64)
    codes[np.repeat(~nameless, num)] = names.search_sorted(parts).to_numpy()
    codes[starts[nameless]] = names.search_sorted(UNCATEGORISED)
    description = _described_then(events, described)
    num_of_event = num[description]
    return Categories(names, codes[concatenated_ranges(starts[description], num_of_event)], num_of_event)


def _described_then(events: pl.DataFrame, described: pl.DataFrame) -> np.ndarray:
    """int64 [events]: the row of `described` (by item and valid_from) that held at each event; its height for none."""
    items = described.select("item_id").with_row_index("first")
    items = items.group_by("item_id", maintain_order=True).agg(pl.col("first").first().cast(pl.Int64), pl.len())
    mine = events.select("item_id").join(items, on="item_id", how="left", maintain_order="left")
    first, last = mine["first"].fill_null(-1).to_numpy(), (mine["first"] + mine["len"] - 1).fill_null(-1).to_numpy()
    times = events["event_time"].dt.epoch("us").to_numpy()
    since = described["valid_from"].dt.epoch("us").to_numpy()
    found = np.full(events.height, described.height)
    ahead = np.flatnonzero(first >= 0)
    position = first[ahead]
    while len(ahead):
        # One more description for every event that has one; most items have one in all.
        holds = since[position] <= times[ahead]
        found[ahead[holds]] = position[holds]
        on = holds & (position < last[ahead])
        ahead, position = ahead[on], position[on] + 1
    return found
