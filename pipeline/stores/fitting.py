"""Whether rows fit the contract of the table that they are to be written to."""

from __future__ import annotations

import polars as pl

from pipeline.contracts import Table
from pipeline.errors import ContractViolation


def check_columns(table: Table, frame: pl.DataFrame) -> None:
    """Raises ContractViolation where a column is absent, of another type, or misses an element inside an array."""
    schema = frame.schema
    found = {name: schema.get(name) for name in table.names}
    wrong = [
        f"{name}: expected {wanted}, found {found[name] or 'no such column'}"
        for name, wanted in table.schema.items()
        if found[name] != wanted
    ]
    if not wrong:
        # Once written, a missing element would be served as 0 or as an empty text.
        lists = [name for name, dtype in table.schema.items() if isinstance(dtype, pl.List)]
        newest = pl.CompatLevel.newest()  # nothing is copied
        lists = [name for name in lists if frame[name].to_arrow(compat_level=newest).values.null_count]
        holes = {name: frame[name].drop_nulls().explode(empty_as_null=False).null_count() for name in lists}
        wrong = [f"{name}: {missing} missing inside arrays" for name, missing in holes.items() if missing]
    if wrong:
        facts = "; ".join(wrong)
        raise ContractViolation(f"{table.name} was not written, its columns do not fit the contract: {facts}.")
