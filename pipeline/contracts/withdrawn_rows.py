"""Rows that a restatement took out of a table that keeps versions: what was known, and until when."""

from dataclasses import replace
from functools import cache

from pipeline.contracts.table import UTC_TIME, Column, Table

WITHDRAWN_AT = "withdrawn"


@cache
def withdrawn_rows_of(table: Table) -> Table:
    """The table beside `table`, with every version of the rows that are no longer there.

    It is read for what was known when, and for nothing else: what is served and trained on comes from `table`. A row
    that stands there with the same `created` was not withdrawn after all: the write that was to do it died.
    """
    return replace(
        table,
        name=f"{table.name}_withdrawn",
        grain=f"a version of a row that {table.name} held until it was withdrawn",
        key=(*table.key, "created"),
        columns=(*table.columns, Column(WITHDRAWN_AT, UTC_TIME, "until when it was known: when the row was withdrawn")),
        keeps_versions=False,
        freshness="",
    )
