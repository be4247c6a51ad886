"""Lists of unequal length as flat arrays: how features cut them without a Python step for each event."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa

MICROSECONDS_A_DAY = 86_400_000_000


def concatenated_ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """int64 [sum(lengths)]: `starts[i], starts[i] + 1, ...`, `lengths[i]` of them, one range after the other."""
    lengths = lengths.astype(np.int64)
    offsets = np.cumsum(lengths) - lengths
    return np.repeat(starts.astype(np.int64) - offsets, lengths) + np.arange(lengths.sum(), dtype=np.int64)


def lists_of(values: pl.Series, lengths: np.ndarray) -> pl.Series:
    """A list column: the first `lengths[0]` of `values`, the next `lengths[1]`, and so on."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    lists = pa.LargeListArray.from_arrays(offsets, values.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest()))
    return pl.Series(values.name, pl.from_arrow(lists), dtype=pl.List(values.dtype))


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
