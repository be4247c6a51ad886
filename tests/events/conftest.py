from collections.abc import Callable
from datetime import UTC, datetime

import polars as pl
import pytest

from pipeline.contracts import PARTITION_COLUMN
from pipeline.events.contract_checks import RowRules, as_landed

DAY = "2026-03-01"


@pytest.fixture
def rules() -> RowRules:
    return RowRules(event_types=("view", "purchase"), earliest=datetime(1990, 1, 1, tzinfo=UTC))


@pytest.fixture
def delivered() -> Callable[..., pl.DataFrame]:
    """Landing rows of one day; each argument is what a row says differently from a good one."""

    def build(*rows: dict) -> pl.DataFrame:
        good = {
            "event_id": None,
            "user_id": "u1",
            "item_id": "i1",
            "event_type": "view",
            "event_time": f"{DAY}T10:00:00Z",
            "value": "1.5",
            "ingested_at": "2026-03-02T00:10:00Z",
        }
        schema = dict.fromkeys([*good, "refuse_reason", PARTITION_COLUMN], pl.String())
        said = [{**good, PARTITION_COLUMN: DAY, **row} for row in rows]
        frame = pl.DataFrame(said, schema=schema)
        return as_landed(frame).with_columns(
            frame[PARTITION_COLUMN], pl.lit("day/a.csv").alias("source_file"), pl.Series("source_row", range(len(rows)))
        )

    return build
