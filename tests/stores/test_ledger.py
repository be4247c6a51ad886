"""The ledger tells what happened, once for each partition and decision."""

from datetime import UTC, datetime

import pytest

from pipeline.errors import EngineFailure
from pipeline.stores.ledger import Ledger, PartitionRecord, Promotion

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def record(partition: str, **changes) -> PartitionRecord:
    facts = {"table_name": "behavior_events", "state": "published", "run_key": "r", "written_at": NOON}
    return PartitionRecord(partition=partition, **{**facts, **changes})


def test_the_newest_state_of_a_partition_replaces_the_one_before(ledger: Ledger):
    ledger.record_partition(record("2026-01-01", state="failed", details={"why": "volume"}))
    ledger.record_partition(record("2026-01-01", counts={"published": 3}))
    assert ledger.partitions() == [record("2026-01-01", counts={"published": 3})]


def test_times_come_back_in_utc(ledger: Ledger):
    ledger.record_partition(record("2026-01-01"))
    assert ledger.partition("behavior_events", "2026-01-01").written_at == NOON


def test_a_run_key_decides_once(ledger: Ledger):
    facts = {
        "model": "m", "run_key": "m@2026-01-01", "from_version": 1, "to_version": 2,
        "reasons": ["better"], "decided_by": "gate", "decided_at": NOON,
    }  # fmt: skip
    ledger.record_promotion(Promotion(decision="held", **facts))
    ledger.record_promotion(Promotion(decision="promoted", **facts))
    assert [promotion.decision for promotion in ledger.promotions("m")] == ["promoted"]


def test_migrating_twice_keeps_what_was_recorded(ledger: Ledger):
    ledger.record_partition(record("2026-01-01"))
    ledger.migrate()
    assert len(ledger.partitions()) == 1


def test_a_ledger_without_tables_says_what_to_do(tmp_path):
    with pytest.raises(EngineFailure, match="interest doctor --repair"):
        Ledger(f"sqlite:///{tmp_path / 'new.db'}").partitions()


def test_many_lines_are_new_or_replace_others_and_are_read_by_their_days(ledger: Ledger):
    lines = [record(partition=f"2026-03-{day:02d}") for day in range(1, 31)]
    ledger.record_partitions(lines[:20])
    later = [line.model_copy(update={"counts": {"rows": 9}}) for line in lines[10:]]
    ledger.record_partitions([*lines[10:], *later])
    assert ledger.partitions("behavior_events") == [*lines[:10], *later]
    assert ledger.partitions("behavior_events", ("2026-03-10", "2026-03-11")) == [lines[9], later[0]]
