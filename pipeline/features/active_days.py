"""The rows of daily features: a user's active days, cut out of events that are in order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from pipeline.features.ragged import days_of, starts_of_runs


@dataclass(frozen=True)
class ActiveDays:
    """Users and their active days in events that are in order (`in_order`). A row is a user and a day."""

    user_ids: pl.Series
    """[users], sorted"""
    first_event: np.ndarray
    """int64 [users]: where a user's events begin"""
    first_row: np.ndarray
    """int64 [users]: where a user's rows begin"""
    num_rows: np.ndarray
    """int64 [users]"""
    user: np.ndarray
    """int64 [rows]: whose row it is"""
    day: np.ndarray
    """int64 [rows]: days since 1970"""
    end: np.ndarray
    """int64 [rows]: where the day's events end"""

    @classmethod
    def of(cls, ordered: pl.DataFrame) -> ActiveDays:
        day = days_of(ordered["event_time"])
        new_user = starts_of_runs(ordered["user_id"])
        first_event = np.flatnonzero(new_user)
        new_row = new_user | (day != np.roll(day, 1))
        row_starts = np.flatnonzero(new_row)
        first_row = np.searchsorted(row_starts, first_event)
        num_rows = np.diff(np.append(first_row, len(row_starts)))
        return cls(
            user_ids=ordered["user_id"].gather(pl.Series(first_event)),
            first_event=first_event,
            first_row=first_row,
            num_rows=num_rows,
            user=np.repeat(np.arange(len(first_event)), num_rows),
            day=day[row_starts],
            end=np.append(row_starts[1:], ordered.height),
        )

    @property
    def newest(self) -> np.ndarray:
        """int64 [users]: a user's last row"""
        return self.first_row + self.num_rows - 1

    def before(self, previous: pl.DataFrame) -> pl.DataFrame:
        """The earlier row of each user, nulls where there is none: [users]."""
        return pl.DataFrame({"user_id": self.user_ids}).join(previous, on="user_id", how="left", maintain_order="left")
