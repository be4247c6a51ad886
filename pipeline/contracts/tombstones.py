"""Who was erased, so that no write brings them back: keyed hashes, no ids."""

import polars as pl

from pipeline.contracts.table import UTC_TIME, Column, Table

TOMBSTONES = Table(
    name="tombstones",
    grain="one erased user",
    key=("keyed_hash",),
    owner="ml-platform@example.com",
    columns=(
        Column("keyed_hash", pl.String(), "HMAC-SHA256 of the user's id, in hexadecimal"),
        Column("key_id", pl.String(), "names the key that it was made with"),
        Column("reason", pl.String(), "why, in the words of who asked; the id is taken out"),
        Column("erased_at", UTC_TIME, "when the platform was asked to erase"),
    ),
    daily=False,
    freshness="3650d",
)
"""A copy of the ledger's tombstones that lies beside the data: a ledger that is lost forgets nobody."""
