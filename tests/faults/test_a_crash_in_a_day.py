"""
kill -9 in a day's run, and two runs at once: the same steps once more, and the state is the one of the clean
chronological run. What is not marked as long here is the short form of the suite: its world takes as long as its tests.
"""

import os
import signal

import pytest

from pipeline.stores.ledger import Ledger

pytestmark = pytest.mark.timeout(900)
QUICK = {
    "kill -9 between the feature tables": ("build_features", "publish.before_commit:kill:2"),
    "kill -9 in the middle of the online push": ("push_features", "push.before_batch:kill:2"),
}
LONG = {
    "kill -9 in validate": ("publish_events", "publish.validate:kill"),
    "kill -9 between quarantine and events": ("publish_events", "publish.after_commit:kill:1"),
    "kill -9 before the data files of the day": ("publish_events", "publish.before_commit:kill:1"),
    "kill -9 after the commit of the events": ("publish_events", "publish.after_commit:kill:2"),
    "kill -9 before the data files of the features": ("build_features", "publish.before_commit:kill:1"),
    "kill -9 after the commit of the features": ("build_features", "publish.after_commit:kill:2"),
    "kill -9 before the online push": ("push_features", "push.before_batch:kill:1"),
    "a failure before the commit of the day": ("publish_events", "publish.before_commit:raise:2"),
}
STEPS = ("publish_events", "build_features", "push_features")


def rows(crashes: dict, *marks):
    return [pytest.param(*crash, id=name, marks=[pytest.mark.fault(name), *marks]) for name, crash in crashes.items()]


@pytest.mark.parametrize(("step", "fault"), [*rows(QUICK), *rows(LONG, pytest.mark.faults_long)])
def test_what_is_run_again_ends_as_if_nothing_had_happened(world, clean, days, step, fault):
    for name in STEPS[: STEPS.index(step)]:
        world.run(name, days[2]).well()

    ended = world.run(step, days[2], fault=fault)

    assert ended.code == (1 if ":raise" in fault else -signal.SIGKILL)
    world.run_days(days[2:]).well()
    world.must_be(clean)


@pytest.mark.fault("two runs of the same day at once")
def test_two_runs_of_the_same_day_at_once_are_as_one(world, clean, days):
    slow = "publish.before_commit:sleep:0.3"
    asked = [world.asked_days([days[2]], fault=slow) for _ in range(2)]
    ended = world.processes.at_once(*asked)
    assert any(one.code == 0 for one in ended)
    assert all(one.code == 0 or one.error == "EngineFailure" for one in ended), ended
    world.run_days([days[3]]).well()
    world.must_be(clean)


RESTATED = {
    "kill -9 in a restatement, after the commit of the quarantine": ("publish_events", "publish.after_commit:kill:1"),
    "kill -9 in a restatement, after the commit of the events": ("publish_events", "publish.after_commit:kill:2"),
    "kill -9 in a restatement, after the commit of the features": ("build_features", "publish.after_commit:kill:1"),
    "kill -9 in a restatement, after the commit of the windows": ("build_features", "publish.after_commit:kill:2"),
}


@pytest.mark.parametrize(("step", "fault"), rows(RESTATED, pytest.mark.faults_long))
def test_a_day_that_changed_and_kept_its_counts_is_told_anew(homes, clean, days, collector, step, fault):
    """The second run finds the rows as they should be; what the ledger says of them, and of later days, is not."""
    day, changed = days[1], {"item_id": "i3"}
    events = [row | changed if number in (2, 4) else row for number, row in enumerate(collector.rows_of(day))]
    events[-1] = events[-1] | changed  # This one is refused before and after.
    world = delivered_again(homes, day, events, collector)
    for name in STEPS[: STEPS.index(step)]:
        world.run(name, day).well()

    assert world.run(step, day, fault=fault).code == -signal.SIGKILL

    world.run_days([day]).well()
    crashed = lines_of(world.settings)
    world.must_be_strictly_healthy()
    ended = world.hash()
    assert ended != clean
    world = delivered_again(homes, day, events, collector)
    world.run_days([day]).well()
    assert (world.hash(), lines_of(world.settings)) == (ended, crashed)


def delivered_again(homes, day, events, collector):
    """All days have run, and then one of them was delivered otherwise, at the same moment each time."""
    world = homes.put_back("clean")
    moment = world.clock.timestamp()
    os.utime(collector.deliver(world.settings, day, events), (moment, moment))
    return world


def lines_of(settings) -> list[dict]:
    """What the ledger says, but for the clock."""
    return [line.model_dump(exclude={"written_at"}) for line in Ledger(settings.ledger_url).partitions()]
