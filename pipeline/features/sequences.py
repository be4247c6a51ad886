"""
A user's last events, one row for each day on which the user was active.

One definition serves one day and a whole history: the state before is the newest earlier row, so folding day by
day through the table gives the same rows as one pass.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from pipeline.contracts import SEQUENCE_FEATURES
from pipeline.features.active_days import ActiveDays
from pipeline.features.ragged import concatenated_ranges, ends_of_days, in_order, lists_of

ARRAYS = {"item_ids": "item_id", "event_types": "event_type", "event_times": "event_time"}
"""The array columns of the table and the event column that fills each."""


def extend_sequences(
    previous: pl.DataFrame, events: pl.DataFrame, length: int, newest_only: bool = False
) -> pl.DataFrame:
    """The rows of `sequence_features` that `events` bring about, without `created`.

    Args:
        previous: at most one row a user, the newest one before the first event's day (contract SEQUENCE_FEATURES).
        events: whole days of events, in any order (contract BEHAVIOR_EVENTS).
        length: the most events kept of a user.
        newest_only: leave out all but each user's last row.

    Returns:
        A row for each user and active day, by user and day. Arrays are oldest first, ordered by
        (event_time, event_id), so that equal times have one order.
    """
    schema = {name: dtype for name, dtype in SEQUENCE_FEATURES.schema.items() if name != "created"}
    if events.is_empty():
        return pl.DataFrame(schema=schema)
    new = in_order(events.select("user_id", "event_id", *ARRAYS.values()))
    days = ActiveDays.of(new)
    before = days.before(previous.select("user_id", *ARRAYS, "num_events"))
    num_before = before["num_events"].fill_null(0).to_numpy()
    rows = days.newest if newest_only else np.arange(len(days.day))
    owner, ends = days.user[rows], days.end[rows]
    # A row is two ranges, one of what was remembered and one of what is new, in `remembered + new`.
    taken = np.minimum(ends - days.first_event[owner], length)
    kept = np.minimum(num_before[owner], length - taken)
    starts = np.column_stack([np.cumsum(num_before)[owner] - kept, num_before.sum() + ends - taken])
    places = pl.Series(concatenated_ranges(starts.ravel(), np.column_stack([kept, taken]).ravel()))
    remembered = before.filter(pl.col("num_events") > 0).select(*ARRAYS).explode(*ARRAYS)
    return pl.DataFrame(
        {
            "user_id": days.user_ids.gather(pl.Series(owner)),
            **{
                name: lists_of(pl.concat([remembered[name], new[column]]).gather(places), kept + taken)
                for name, column in ARRAYS.items()
            },
            "num_events": kept + taken,
            "event_timestamp": ends_of_days(days.day[rows]),
        },
        schema=schema,
    )
