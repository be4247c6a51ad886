"""
A log larger than memory, cut by users: every bucket holds whole users, so that features are built bucket by bucket.

The cut goes through files of a scratch folder, once. What a bucket takes is told by a sample of the users.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from pathlib import Path
from typing import TypeVar

import polars as pl

Part = TypeVar("Part")

BYTES_AN_EVENT = 700
"""What a bucket takes at its peak for each of its events, measured: as read, in order, and cut into parts."""
BYTES_AN_ENTRY = 200
"""The same for each entry of the lists that it is made into: three arrays of a sequence, and the windows beside it."""
ENGINES_MB = 110.0
"""What reading, cutting and writing take whatever the size: kept back from the budget."""
SAMPLED = 64
"""One of so many users is looked at to tell how large the lists become."""


def bucket_of(num: int) -> pl.Expr:
    """The bucket of a row's user, 0 to `num` - 1. The same within one version of Polars: never kept in a table."""
    return (pl.col("user_id").hash(seed=11) % num).cast(pl.UInt32)


def buckets_within(budget_mb: float, events: pl.LazyFrame, length: int, newest_only: bool = False) -> int:
    """How many buckets keep the peak of one below `budget_mb`."""
    left = max(budget_mb - ENGINES_MB, budget_mb / 5) * 1_000_000
    sample = events.filter(bucket_of(SAMPLED) == 0).select("user_id", pl.col("event_time").dt.date().alias("day"))
    days = sample.group_by("user_id", "day").len().sort("user_id", "day")
    so_far = pl.col("len").cum_sum().over("user_id").clip(upper_bound=length)
    entries = days.select(so_far.last().over("user_id") / pl.len().over("user_id") if newest_only else so_far)
    rows = events.select(pl.len()).collect(engine="streaming").item()
    listed = entries.sum().collect(engine="streaming").item() * SAMPLED
    return max(1, ceil((rows * BYTES_AN_EVENT + listed * BYTES_AN_ENTRY) / left))


def one_ahead(parts: Generator[Part]) -> Iterator[Part]:
    """The same parts; each is made in a thread while the one before it is used, so both cost time once."""
    end = object()
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, parts, end)
        try:
            while (part := coming.result()) is not end:
                coming = thread.submit(next, parts, end)
                yield part
        finally:
            coming.exception()  # one that is being made is waited for
            parts.close()


def in_buckets(frame: pl.LazyFrame, num: int, scratch: Path) -> Iterator[pl.DataFrame]:
    """The rows of `frame`, one bucket after the other; each holds all rows of its users. Empty ones are left out."""
    if num == 1:
        yield frame.collect()
        return
    folder = pl.PartitionBy(scratch, key="bucket", include_key=False)
    frame.with_columns(bucket_of(num).alias("bucket")).sink_ipc(folder, mkdir=True, compression="lz4")
    for place in sorted(scratch.glob("bucket=*")):
        yield pl.scan_ipc(place).collect()
        for file in place.iterdir():
            file.unlink()
