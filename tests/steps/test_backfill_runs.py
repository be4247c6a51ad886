"""Which runs belong to a backfill, and what they are told."""

from types import SimpleNamespace

from pipeline.errors import NoInterestModel, NotFound
from pipeline.partitions import Day
from pipeline.stack.restate import WEEKLY, expected_work
from pipeline.steps.backfill_runs import backfill_at_root, backfill_of, tell_on
from pipeline.stores.backfills import BackfillRecord, Backfills

DAY = "2026-03-02"


def run_of(conf: dict, day: str = DAY) -> dict:
    return {"dag_run": SimpleNamespace(conf=conf), "partition_key": day}


def brought_about_by(*extras: dict) -> dict:
    return {"triggering_asset_events": {"asset": [SimpleNamespace(extra=extra) for extra in extras]}}


def test_the_root_belongs_to_the_backfill_that_runs_and_holds_its_day(settings, ledger, known_at):
    facts = {"first": DAY, "last": DAY, "tables": [], "reason": "", "days": [DAY], "started_at": known_at}
    record = Backfills(ledger).write(BackfillRecord(plan_id="abc", state="running", **facts))
    assert backfill_at_root(run_of({"backfill": "abc"}), settings) == "abc"
    assert backfill_at_root(run_of({}), settings) is None
    assert backfill_at_root(run_of({"backfill": "other"}), settings) is None
    assert backfill_at_root(run_of({"backfill": "abc"}, "2026-03-03"), settings) is None
    Backfills(ledger).write(record.model_copy(update={"state": "done"}))
    assert backfill_at_root(run_of({"backfill": "abc"}), settings) is None


def test_a_run_below_belongs_to_a_backfill_when_all_its_events_do():
    assert backfill_of(brought_about_by({"backfill": "a"}, {"backfill": "a"})) == "a"
    assert backfill_of(brought_about_by({"backfill": "a"}, {})) is None
    assert backfill_of(brought_about_by()) is None


def test_the_next_run_is_told():
    event = SimpleNamespace(extra={"rows": 1})
    tell_on(None, event)
    assert event.extra == {"rows": 1}
    tell_on("a", event)
    assert event.extra == {"rows": 1, "backfill": "a"}


def test_no_training_is_expected_of_a_backfill():
    week = Day.parse("2026-03-02"), Day.parse("2026-03-08")
    assert {work.dag_id for work in expected_work(*week)} >= set(WEEKLY)
    assert not {work.dag_id for work in expected_work(*week, trains=False)} & set(WEEKLY)


def test_a_filter_without_an_interest_model_is_a_kind_of_not_found():
    assert issubclass(NoInterestModel, NotFound) and not NoInterestModel.retry
