"""Great Expectations judges the day; when it breaks, that is never told as bad data."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pipeline.contracts import BEHAVIOR_EVENTS, PARTITION_COLUMN
from pipeline.errors import ContractViolation, EngineFailure
from pipeline.events.contract_checks import RowRules
from pipeline.events.expectations import DAYS_SUITE, QualityGate
from pipeline.events.measures import MEASURES
from pipeline.settings.data import Quality, Thresholds

RULES = RowRules(event_types=("view",), earliest=datetime(1990, 1, 1, tzinfo=UTC))
MOMENT = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def gate() -> QualityGate:
    return QualityGate(Quality(), RULES)


def measures(*days: dict) -> pl.DataFrame:
    rows = [
        {PARTITION_COLUMN: f"2026-03-0{n}", "rows": 9, "unexpectedly_empty": 0, **dict.fromkeys(MEASURES), **day}
        for n, day in enumerate(days, start=1)
    ]
    return pl.DataFrame(rows, schema_overrides=dict.fromkeys(MEASURES, pl.Float64()))


def rows(**changes) -> pl.DataFrame:
    row = {
        "event_id": "e", "user_id": "u", "item_id": "i", "event_type": "view", "event_time": MOMENT, "value": None,
        "ingested_at": MOMENT, PARTITION_COLUMN: "2026-03-01", **changes,
    }
    return pl.DataFrame([row], schema={**BEHAVIOR_EVENTS.schema, PARTITION_COLUMN: pl.String()})


def test_every_measure_warns_above_its_first_limit_and_fails_above_its_second(gate):
    for measure in MEASURES:
        limits: Thresholds = getattr(gate.quality, measure)
        between = (limits.warn + limits.fail) / 2
        days = measures({measure: limits.warn}, {measure: between}, {measure: limits.fail * 1.01})
        verdict, _ = gate.judge_days(days)
        assert list(verdict.failures) == ["2026-03-03"], measure
        assert [f.measure for f in verdict.warnings["2026-03-02"]] == [measure]
        assert not verdict.warnings.get("2026-03-01") and not verdict.warnings.get("2026-03-03")


def test_a_finding_says_what_was_found_and_the_limit(gate):
    verdict, _ = gate.judge_days(measures({"refused_share": 0.4}))
    assert str(verdict.failures["2026-03-01"][0]) == "refused_share 0.4 (limit 0.3)"


def test_an_unexpected_empty_day_fails_or_warns_as_the_settings_say(gate):
    empty = measures({"unexpectedly_empty": 1})
    assert "no event" in str(gate.judge_days(empty)[0].failures["2026-03-01"][0])
    lenient = QualityGate(Quality(unexpected_empty_day="publish"), RULES)
    verdict, _ = lenient.judge_days(empty)
    assert not verdict.failures and verdict.warnings["2026-03-01"]


def test_good_rows_and_no_rows_pass(gate):
    assert gate.check_rows(rows()).success
    assert gate.check_rows(rows().clear()).success


@pytest.mark.parametrize("change", [{"user_id": None}, {"item_id": "x" * 300}, {"event_type": "like"}])
def test_a_row_that_slipped_through_the_row_checks_is_caught(gate, change):
    with pytest.raises(ContractViolation, match="after the row checks"):
        gate.check_rows(rows(**change))


def test_an_event_id_may_come_once_a_day(gate):
    with pytest.raises(ContractViolation, match="unique"):
        gate.check_rows(pl.concat([rows(), rows()]))
    gate.check_rows(pl.concat([rows(), rows(**{PARTITION_COLUMN: "2026-03-02"})]))


def test_a_check_that_cannot_be_carried_out_is_an_engine_failure(gate):
    with pytest.raises(EngineFailure, match="says nothing about the data"):
        gate.judge_days(measures({}).drop("volume_rise"))
    with pytest.raises(EngineFailure, match="says nothing about the data"):
        gate.judge_days(measures({}).with_columns(pl.lit("many").alias("refused_share")))


def test_results_are_kept_by_run_key_and_shown(tmp_path):
    gate = QualityGate(Quality(), RULES, tmp_path)
    for _ in range(2):
        result = gate.judge_days(measures({"refused_share": 0.05}))[1]
        gate.keep([result, gate.check_rows(rows(user_id="SECRET"))], "behavior_logs@2026-03-01", MOMENT)
    (kept,) = (tmp_path / "results" / DAYS_SUITE).rglob("*.json")
    assert "behavior_logs@2026-03-01" in kept.as_posix()
    assert json.loads(kept.read_text())["success"] is False
    index = (tmp_path / "pages" / "index.html").read_text()
    assert "behavior_logs@2026-03-01" in index
    pages = [page.read_text() for page in (tmp_path / "pages").rglob("*.html")]
    assert len(pages) >= 3
    assert not any("SECRET" in page for page in pages)


def test_keeping_costs_the_same_after_many_days(tmp_path):
    gate = QualityGate(Quality(), RULES, tmp_path)
    result = gate.judge_days(measures({}))[1]
    for number in range(8):
        gate.keep([result], f"behavior_logs@{number}", MOMENT + timedelta(days=number))
    before = {page: page.stat().st_mtime_ns for page in (tmp_path / "pages" / "validations").rglob("*.html")}
    gate.keep([result], "behavior_logs@8", MOMENT + timedelta(days=8))
    after = {page: page.stat().st_mtime_ns for page in (tmp_path / "pages" / "validations").rglob("*.html")}
    assert len(after) == len(before) + 1
    assert {page: after[page] for page in before} == before, "no earlier page is written again"


def test_the_engine_starts_in_a_process_without_a_main_file():
    script = (
        "from datetime import datetime, UTC\n"
        "from pipeline.events.expectations import QualityGate\n"
        "from pipeline.events.contract_checks import RowRules\n"
        "from pipeline.settings import Quality\n"
        "QualityGate(Quality(), RowRules(('view',), datetime(1990, 1, 1, tzinfo=UTC)))\n"
        "print('started')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert "started" in done.stdout, done.stdout + done.stderr
