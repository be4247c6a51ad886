"""Lists of unequal length as flat arrays: how features cut them without a Python step for each event."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa

MICROSECONDS_A_DAY = 86_400_000_000
IN_ORDER = ("user_id", "event_time", "event_id")
"""The order in which features read events. Event ids break ties, so that equal times have one order."""


def in_order(events: pl.DataFrame) -> pl.DataFrame:
    """`events` by user, time and id; as they are where they are so already, which is quickly seen."""
    user, time, event = (pl.col(name) for name in IN_ORDER)
    falls = (user < user.shift()) | (
        (user == user.shift()) & ((time < time.shift()) | ((time == time.shift()) & (event < event.shift())))
    )
    if not events.select(falls.any()).item():
        return events
    # Sorted by each user's number: users are compared once, not in every step of the sort.
    users = events.select(pl.col("user_id").unique().sort()).with_row_index("number")
    numbered = events.join(users, on="user_id", how="left", maintain_order="left")
    return numbered.sort("number", *IN_ORDER[1:]).drop("number")


def concatenated_ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """int64 [sum(lengths)]: `starts[i], starts[i] + 1, ...`, `lengths[i]` of them, one range after the other."""
    lengths = lengths.astype(np.int64)
    offsets = np.cumsum(lengths) - lengths
    return np.repeat(starts.astype(np.int64) - offsets, lengths) + np.arange(lengths.sum(), dtype=np.int64)


def lists_of(values: pl.Series, lengths: np.ndarray) -> pl.Series:
    """A list column: the first `lengths[0]` of `values`, the next `lengths[1]`, and so on."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    inner = values.rechunk().to_arrow(compat_level=pl.CompatLevel.newest())
    # From a buffer, because pyarrow loads pandas to look at an array of NumPy's.
    lists = pa.LargeListArray.from_buffers(
        pa.large_list(inner.type), len(lengths), [None, pa.py_buffer(offsets)], children=[inner]
    )
    return pl.Series(values.name, _Arrow(lists), dtype=pl.List(values.dtype))


class _Arrow:
    """Hands an array over without the modules that Polars loads, for .4 seconds, to look at one of pyarrow's."""

    def __init__(self, array: pa.Array):
        self._array = array

    def __arrow_c_array__(self, requested_schema=None):
        return self._array.__arrow_c_array__(requested_schema)


def numbered(keys: np.ndarray, end: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct keys in order, and for each key which of them it is.

    Args:
        keys: int64 [n], each from 0 to `end` - 1.
    """
    if end > 16 * len(keys) + 1_000_000:
        return np.unique(keys, return_inverse=True)
    # A mark for each possible key costs less than sorting, unless they are very many.
    present = np.zeros(end, dtype=bool)
    present[keys] = True
    distinct = np.flatnonzero(present)
    number = np.empty(end, dtype=np.int32)
    number[distinct] = np.arange(len(distinct), dtype=np.int32)
    return distinct, number[keys]


def starts_of_runs(*columns: pl.Series) -> np.ndarray:
    """bool [rows]: where one of the columns differs from the row before; the first row starts a run."""
    changed = np.zeros(len(columns[0]), dtype=bool)
    for column in columns:
        changed |= (column != column.shift(1)).fill_null(True).to_numpy()
    return changed


def days_of(times: pl.Series) -> np.ndarray:
    """int64 [rows]: days since 1970, in UTC."""
    return times.dt.epoch("us").to_numpy() // MICROSECONDS_A_DAY


def ends_of_days(days: np.ndarray) -> pl.Series:
    """The last microsecond of each day, the event time of a daily feature row (`Day.as_of`)."""
    return pl.Series("event_timestamp", (days + 1) * MICROSECONDS_A_DAY - 1).cast(pl.Datetime("us", "UTC"))
