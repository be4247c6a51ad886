"""
Takes back what is served although it was withdrawn.

A correction may leave a user without an event on a day, and then the day's rows go from the tables. If such a row is
the newest one, the online store goes on serving it: its fence takes nothing older. This is the one way around the
fence. It is asked for, it is logged, and it touches only users of whom something newer is served than the tables hold.
"""

from __future__ import annotations

from datetime import datetime

import polars as pl
from pydantic import BaseModel, ConfigDict

from pipeline.contracts import TABLES, Table
from pipeline.observability import get_logger
from pipeline.settings import Settings
from pipeline.stores.tables import Lake, newest_versions

log = get_logger(__name__)

USER, MOMENT = "user_id", "event_timestamp"


class WithdrawnOnline(BaseModel):
    """What was taken back."""

    model_config = ConfigDict(frozen=True)

    users: int
    """Users of whom a view served a row that the tables do not hold any more."""
    served_again: dict[str, int]
    """By view, how many of them are served the newest row that still stands; the others have none."""
    views: tuple[str, ...]
    """The views that served such a row."""


def withdraw_online(settings: Settings, known_at: datetime) -> WithdrawnOnline:
    """Serve the newest row that stands to every user who is served a newer, withdrawn one. Safe to repeat.

    Between the two a look-up may find nothing of these users; it never finds what is wrong.

    Raises:
        EngineFailure: the online store did not answer. Worth a retry.
    """
    # Imported here: Feast takes seconds to load.
    from pipeline.stores.feature_store import keys_of_views, push_online
    from pipeline.stores.online_erasure import forget_online

    lake = Lake.of(settings)
    named = {table.name: table for table in TABLES}
    tables = [named[view] for view, key in keys_of_views(settings).items() if key == USER]
    ahead = {table.name: _users_ahead(lake, table, settings) for table in tables}
    users = sorted(set().union(*ahead.values()))
    for user in users:
        forget_online(settings, user)
    served_again = {}
    for table in tables if users else ():
        rows = lake.scan(table).filter(pl.col(USER).is_in(users))
        newest = rows.group_by(USER).agg(pl.col(MOMENT).max())
        standing = newest_versions(table, rows.join(newest, on=[USER, MOMENT], how="semi")).collect()
        served_again[table.name] = push_online(settings, table.name, standing).accepted
    views = tuple(view for view, found in ahead.items() if found)
    log.warning("withdrawn online", at=known_at.isoformat(), users=len(users), views=views, served_again=served_again)
    return WithdrawnOnline(users=len(users), served_again=served_again, views=views)


def _users_ahead(lake: Lake, table: Table, settings: Settings) -> set[str]:
    """The users of whom something newer is served than the table holds. A row that is pushed meanwhile does no harm:
    what is pushed in the end is read after it."""
    from pipeline.stores.served_rows import served_keys, served_rows

    newest = lake.scan(table).group_by(USER).agg(pl.col(MOMENT).max().alias("stands")).collect()
    served = served_rows(settings, table, served_keys(settings, table.name)).select(USER, MOMENT)
    both = served.join(newest, on=USER, how="left")
    return set(both.filter(pl.col("stands").is_null() | (pl.col(MOMENT) > pl.col("stands")))[USER])
