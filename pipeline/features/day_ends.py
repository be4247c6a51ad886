"""Events just after a day's end, which may lie in the files of that day and in those of the next one."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

A_DAY = timedelta(days=1)


def each_once(events: pl.LazyFrame, tolerance: timedelta) -> pl.LazyFrame:
    """The events of some partitions, in any order, each of a user's event ids once.

    Within a partition it is so already, so only what lies less than `tolerance` after midnight is looked at. Of two
    that say different things the greater one by content is kept: the same choice in any order of files.

    Args:
        events: rows of BEHAVIOR_EVENTS; `value` and `ingested_at` may be left out.
        tolerance: how far after the day's end an event of that day's files may lie.
    """
    if not tolerance:
        return events
    after_midnight = pl.col("event_time") - pl.col("event_time").dt.truncate("1d")
    is_at_an_edge = after_midnight < min(tolerance, A_DAY)
    key = ["user_id", "event_id"]
    at_edges = events.filter(is_at_an_edge).sort(*key, "event_time", "item_id", "event_type")
    return pl.concat([events.filter(~is_at_an_edge), at_edges.unique(key, keep="last", maintain_order=True)])
