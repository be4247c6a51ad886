"""What a range of days brings about."""

import pytest

from pipeline.errors import NotFound
from pipeline.partitions import Day
from pipeline.stack.restate import DAILY, WEEKLY, Progress, Work, expected_work, weeks_of
from pipeline.steps.history import plan_history


def day(key: str) -> Day:
    return Day.parse(key)


def test_a_range_is_cut_at_every_monday():
    pieces = [(str(first), str(last)) for first, last in weeks_of(day("2026-03-06"), day("2026-03-17"))]
    assert pieces == [("2026-03-06", "2026-03-08"), ("2026-03-09", "2026-03-15"), ("2026-03-16", "2026-03-17")]


def test_only_a_whole_week_trains_models():
    work = expected_work(day("2026-03-08"), day("2026-03-16"))
    assert [w.partition for w in work if w.dag_id in WEEKLY] == ["2026-03-09 (W11)"] * 2
    assert len([w for w in work if w.dag_id in DAILY]) == 9 * len(DAILY)


def test_a_run_that_has_not_come_is_left():
    done, failed, never = (Work("behavior_logs", f"2026-03-0{n}") for n in (1, 2, 3))
    progress = Progress([done, failed, never], {done: "success", failed: "failed"})
    assert (progress.done, progress.failed, progress.running, progress.left) == ([done], [failed], [], 1)


@pytest.mark.parametrize(
    ("first", "last", "past", "recent"),
    [
        ("2026-01-01", "2026-03-15", ("2026-01-01", "2026-03-08"), ("2026-03-09", "2026-03-15")),
        ("2026-01-01", "2026-03-17", ("2026-01-01", "2026-03-08"), ("2026-03-09", "2026-03-17")),
        ("2026-03-11", "2026-03-15", None, ("2026-03-11", "2026-03-15")),
        ("2026-03-11", "2026-03-12", None, ("2026-03-11", "2026-03-12")),
    ],
)
def test_the_last_whole_week_goes_through_the_scheduler(settings, first, last, past, recent):
    for key in (first, last):
        folder = settings.landing_path / "behavior_events" / key
        folder.mkdir(parents=True)
        (folder / "log.parquet").touch()
    plan = plan_history(settings)
    assert (plan.past, plan.recent) == (past, recent)


def test_nothing_landed_says_what_to_do(settings):
    with pytest.raises(NotFound, match="interest load"):
        plan_history(settings)
