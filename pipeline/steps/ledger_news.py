"""
What the tables know and the ledger does not: commits whose process died before it wrote their lines.

Every commit carries its lines as a note, so a step that runs again first writes those down. Without that, a second run
finds its day as it should be, has nothing to write, and the ledger goes on telling of the day before it.
"""

from __future__ import annotations

from pipeline.contracts import Table
from pipeline.observability import get_logger
from pipeline.stores.ledger import Ledger, PartitionRecord, records_of
from pipeline.stores.tables import Lake

log = get_logger(__name__)


def unheard(lake: Lake, ledger: Ledger, table: Table, since: int | None = None) -> dict[str, PartitionRecord]:
    """By partition, the newest line that a commit carries, where the ledger has none or one of an older version.

    Args:
        since: look only at commits after this version.
    """
    newest: dict[str, PartitionRecord] = {}
    for commit in lake.commits(table, since):
        for partition, line in records_of(table.name, commit.version, commit.note).items():
            newest.setdefault(partition, line)
    known = {line.partition: line for line in ledger.partitions(table.name)} if newest else {}
    return {key: line for key, line in sorted(newest.items()) if _is_news(line, known.get(key))}


def catch_up(lake: Lake, ledger: Ledger, *tables: Table) -> None:
    """Write down what the ledger has not heard. Costs nothing where its newest line is as new as the table."""
    for table in tables:
        version = lake.version(table)
        told = max((line.version for line in ledger.partitions(table.name) if line.version is not None), default=-1)
        if version is None or version <= told:
            continue
        if lines := unheard(lake, ledger, table, told):
            ledger.record_partitions(list(lines.values()))
            log.info("ledger caught up", table=table.name, partitions=list(lines))


def _is_news(line: PartitionRecord, standing: PartitionRecord | None) -> bool:
    return standing is None or (standing.version is not None and standing.version < (line.version or 0))
