"""
Serves what a run wrote and died before it pushed.

A day of vectors or lists is written, and then pushed. A run that died between the two and is made again finds the days
that it wrote beside its own as they should be, and has nothing more to do with them. So whoever writes several days
also pushes those that stood already. They pass the fence: what is served is never replaced by something older.
"""

from __future__ import annotations

from collections.abc import Collection

from pipeline.contracts import Table
from pipeline.partitions import Day
from pipeline.settings import Settings
from pipeline.steps.online_rebuild import newest_rows
from pipeline.steps.serving_days import Timeline
from pipeline.stores.feature_store import push_online
from pipeline.stores.tables import Lake


def push_unpushed(settings: Settings, lake: Lake, table: Table, since: Day | None, pushed: Collection[Day]) -> int:
    """Push every user's newest row of the days from `since` on, unless all of these are among `pushed`.

    Returns how many rows the online store took. Raises EngineFailure.
    """
    others = [day for day in lake.days(table) if since is not None and day >= since and day not in pushed]
    if not others:
        return 0
    newest = newest_rows(lake, table, "user_id", max(others), since=since)
    return sum(push_online(settings, table.name, rows).accepted for rows in newest)


def first_day_of_the_present(lake: Lake, table: Table, timeline: Timeline) -> Day | None:
    """The first day of the version that serves the newest day; everybody has a row on it, or on a later one."""
    first, present = None, None
    for day in sorted(lake.days(table), reverse=True):
        version = timeline.at(day.start)
        present = present or version
        if version is None or version.number != present.number:
            break
        first = day
    return first
