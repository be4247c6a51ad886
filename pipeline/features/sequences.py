"""
A user's last events, one row for each day on which the user was active.

One definition serves one day and a whole history: the state before is the newest earlier row, so folding day by
day through the table gives the same rows as one pass.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from pipeline.contracts import SEQUENCE_FEATURES
from pipeline.features.ragged import concatenated_ranges, days_of, ends_of_days, lists_of, starts_of_runs

ARRAYS = {"item_ids": "item_id", "event_types": "event_type", "event_times": "event_time"}
"""The array columns of the table and the event column that fills each."""


def extend_sequences(previous: pl.DataFrame, events: pl.DataFrame, length: int) -> pl.DataFrame:
    """The rows of `sequence_features` that `events` bring about, without `created`.

    Args:
        previous: at most one row a user, the newest one before the first event's day (contract SEQUENCE_FEATURES).
        events: whole days of events, in any order (contract BEHAVIOR_EVENTS).
        length: the most events kept of a user.

    Returns:
        A row for each user and active day, by user and day. Arrays are oldest first, ordered by
        (event_time, event_id), so that equal times have one order.
    """
    schema = {name: dtype for name, dtype in SEQUENCE_FEATURES.schema.items() if name != "created"}
    if events.is_empty():
        return pl.DataFrame(schema=schema)
    flat = _states_then_events(previous, events)
    new_user = starts_of_runs(flat["user_id"])
    day = days_of(flat["event_time"])
    last_of_day = np.roll(new_user | (day != np.roll(day, 1)), -1)
    last_of_day[-1] = True
    ends = np.flatnonzero(last_of_day & flat["is_new"].to_numpy()) + 1
    user_starts = np.maximum.accumulate(np.where(new_user, np.arange(flat.height), 0))
    starts = np.maximum(user_starts[ends - 1], ends - length)
    events_kept = concatenated_ranges(starts, ends - starts)
    lasts = pl.Series(ends - 1)
    return pl.DataFrame(
        {
            "user_id": flat["user_id"].gather(lasts),
            **{
                name: lists_of(flat[column].gather(pl.Series(events_kept)), ends - starts)
                for name, column in ARRAYS.items()
            },
            "num_events": ends - starts,
            "event_timestamp": ends_of_days(day[ends - 1]),
        },
        schema=schema,
    )


def _states_then_events(previous: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Each user's remembered events followed by the new ones, users by id."""
    columns = ["user_id", *ARRAYS.values()]
    new = events.sort("user_id", "event_time", "event_id").select(*columns, pl.lit(True).alias("is_new"))
    concerned = previous.join(events.select("user_id"), on="user_id", how="semi")
    remembered = (
        concerned.filter(pl.col("num_events") > 0)
        .select("user_id", *ARRAYS)
        .explode(*ARRAYS)
        .rename(ARRAYS)
        .select(*columns, pl.lit(False).alias("is_new"))
    )
    return pl.concat([remembered, new]).sort("user_id", "is_new", maintain_order=True)
