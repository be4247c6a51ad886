"""What the data is. Every other package reads it here."""

from pipeline.contracts.behavior_events import BEHAVIOR_EVENTS, MAX_ID_LENGTH, QUARANTINED_EVENTS
from pipeline.contracts.interest_windows import INTEREST_WINDOWS, WINDOW_DAYS
from pipeline.contracts.items import (
    ITEM_TEXT,
    ITEM_TEXT_SPACES,
    ITEM_VECTORS,
    ITEMS,
    MODALITIES,
    UNCATEGORISED,
    UNKNOWN_TITLE,
)
from pipeline.contracts.late_events import LATE_EVENTS
from pipeline.contracts.long_term_interest import LONG_TERM_INTEREST
from pipeline.contracts.lookup_log import LOOKUP_LOG, LOOKUP_PARITY
from pipeline.contracts.newest_days import NEWEST_DAYS
from pipeline.contracts.online_parity import ONLINE_PARITY
from pipeline.contracts.other_spaces import LONG_TERM_INTEREST_MAPPED, LONG_TERM_INTEREST_REENCODED
from pipeline.contracts.recommendations import RECOMMENDATIONS
from pipeline.contracts.sequence_features import SEQUENCE_FEATURES
from pipeline.contracts.table import PARTITION_COLUMN, UTC_TIME, Column, Table, duration_of
from pipeline.contracts.withdrawn_rows import WITHDRAWN_AT, withdrawn_rows_of

TABLES = (
    BEHAVIOR_EVENTS,
    QUARANTINED_EVENTS,
    LATE_EVENTS,
    ITEMS,
    ITEM_VECTORS,
    ITEM_TEXT,
    ITEM_TEXT_SPACES,
    SEQUENCE_FEATURES,
    INTEREST_WINDOWS,
    NEWEST_DAYS,
    LONG_TERM_INTEREST,
    LONG_TERM_INTEREST_REENCODED,
    LONG_TERM_INTEREST_MAPPED,
    RECOMMENDATIONS,
    ONLINE_PARITY,
    LOOKUP_LOG,
    LOOKUP_PARITY,
)
STORED_TABLES = (*TABLES, *(withdrawn_rows_of(table) for table in TABLES if table.keeps_versions))
"""With the rows that were withdrawn from them: for whoever keeps, re-keys or erases what is stored."""

__all__ = [
    "BEHAVIOR_EVENTS",
    "INTEREST_WINDOWS",
    "ITEMS",
    "ITEM_TEXT",
    "ITEM_TEXT_SPACES",
    "ITEM_VECTORS",
    "LATE_EVENTS",
    "LONG_TERM_INTEREST",
    "LONG_TERM_INTEREST_MAPPED",
    "LONG_TERM_INTEREST_REENCODED",
    "LOOKUP_LOG",
    "LOOKUP_PARITY",
    "MAX_ID_LENGTH",
    "MODALITIES",
    "NEWEST_DAYS",
    "ONLINE_PARITY",
    "PARTITION_COLUMN",
    "QUARANTINED_EVENTS",
    "RECOMMENDATIONS",
    "SEQUENCE_FEATURES",
    "STORED_TABLES",
    "TABLES",
    "UNCATEGORISED",
    "UNKNOWN_TITLE",
    "UTC_TIME",
    "WINDOW_DAYS",
    "WITHDRAWN_AT",
    "Column",
    "Table",
    "duration_of",
    "withdrawn_rows_of",
]
