"""Law 3: for every key the served event time never decreases, and finally equals the newest that was written."""

import itertools
import multiprocessing
import random
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as how_much
from hypothesis import strategies as st

from pipeline.contracts import LONG_TERM_INTEREST
from pipeline.errors import EngineFailure
from pipeline.partitions import Day
from pipeline.settings import Settings
from pipeline.stores.fence import Clock, is_newer

VIEW = LONG_TERM_INTEREST.name
FEATURES = [name for name in LONG_TERM_INTEREST.names if name not in ("user_id", "event_timestamp", "created")]
NAMES = itertools.count()


def day(number: int) -> datetime:
    return Day.parse("2026-03-01").plus(number).as_of


def row(user: str, event_time: datetime, known_at: datetime, mark: float = 0.0) -> dict:
    return {
        "user_id": user,
        "vector": [mark] * 16,
        "space_id": f"space-{mark:g}",
        "model_version": int(mark),
        "model_cutoff": datetime(2026, 2, 1, tzinfo=UTC),
        "event_timestamp": event_time,
        "created": known_at,
    }


def frame(*rows: dict) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=LONG_TERM_INTEREST.schema)


def push(online: Settings, *rows: dict):
    from pipeline.stores.feature_store import push_online

    return push_online(online, VIEW, frame(*rows))


def served(online: Settings, user: str) -> tuple[datetime, float, str] | None:
    from pipeline.serving.lookup import look_up

    answer = look_up(online, user, "ranking_v1", datetime(2026, 4, 1, tzinfo=UTC)).views[VIEW]
    if answer.status == "not_found":
        return None
    assert set(answer.values["vector"]) == {float(answer.model_version)}, "a mix of two writes"
    assert answer.space_id == f"space-{answer.model_version}"
    return answer.event_time, float(answer.model_version), answer.space_id


@pytest.fixture
def user() -> str:
    return f"user-{next(NAMES)}"


def test_a_backfill_never_moves_the_online_store_backward(online, user):
    push(online, row(user, day(9), known_at=day(9), mark=9))
    pushed = push(online, row(user, day(2), known_at=day(10), mark=2))
    assert (pushed.accepted, pushed.refused) == (0, 1)
    assert served(online, user) == (day(9), 9.0, "space-9")


def test_a_correction_of_the_served_day_is_served(online, user):
    push(online, row(user, day(9), known_at=day(9), mark=1))
    pushed = push(online, row(user, day(9), known_at=day(10), mark=2))
    assert (pushed.accepted, pushed.refused) == (1, 0)
    assert served(online, user) == (day(9), 2.0, "space-2")


def test_a_correction_that_is_itself_outdated_is_refused(online, user):
    push(online, row(user, day(9), known_at=day(10), mark=2))
    assert push(online, row(user, day(9), known_at=day(9), mark=1)).refused == 1
    assert served(online, user) == (day(9), 2.0, "space-2")


def test_the_same_row_again_changes_nothing(online, user):
    push(online, row(user, day(9), known_at=day(9), mark=1))
    assert push(online, row(user, day(9), known_at=day(9), mark=1)).refused == 1
    assert push(online, row(user, day(9), known_at=day(9), mark=7)).refused == 1
    assert served(online, user) == (day(9), 1.0, "space-1")


def test_a_newer_day_is_served_and_a_microsecond_counts(online, user):
    push(online, row(user, day(9), known_at=day(9), mark=1))
    assert push(online, row(user, day(9) + timedelta(microseconds=1), known_at=day(1), mark=2)).accepted == 1
    assert served(online, user) == (day(9) + timedelta(microseconds=1), 2.0, "space-2")


def test_of_several_rows_of_a_user_only_the_newest_is_pushed(online, user):
    pushed = push(online, *(row(user, day(n), known_at=day(20), mark=n) for n in (3, 8, 5)))
    assert (pushed.rows, pushed.accepted, pushed.refused) == (1, 1, 0)
    assert served(online, user) == (day(8), 8.0, "space-8")


def test_times_before_1970_are_in_order_too(online, user):
    old = datetime(1969, 5, 1, tzinfo=UTC)
    push(online, row(user, old, known_at=day(1), mark=1))
    assert push(online, row(user, old - timedelta(days=1), known_at=day(2), mark=2)).refused == 1
    assert push(online, row(user, old + timedelta(days=1), known_at=day(2), mark=3)).accepted == 1


@how_much(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=8))
def test_any_order_of_writes_ends_with_the_newest_and_never_steps_back(online, writes):
    user, before = f"user-{next(NAMES)}", datetime.min.replace(tzinfo=UTC)
    first_mark: dict[tuple[int, int], int] = {}
    for mark, (event, known) in enumerate(writes, start=1):
        first_mark.setdefault((event, known), mark)
        push(online, row(user, day(event), known_at=day(10 + known), mark=mark))
        now = served(online, user)[0]
        assert now >= before
        before = now
    newest = max(writes)
    assert served(online, user)[:2] == (day(newest[0]), float(first_mark[newest]))


def test_concurrent_writers_keep_the_newest_and_readers_see_whole_rows(online):
    from pipeline.stores.feature_store import open_feature_store

    users = [f"user-{next(NAMES)}" for _ in range(5)]
    clocks = [(event, known) for event in range(40) for known in range(3)]
    rows = [
        row(user, day(event), known_at=day(50 + known), mark=10 * event + known)
        for user in users
        for event, known in clocks
    ]
    encoded = _encoded(rows)
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(online, encoded, seed)) for seed in range(4)]
    open_feature_store(online)
    for writer in writers:
        writer.start()
    last = {user: datetime.min.replace(tzinfo=UTC) for user in users}
    while any(writer.is_alive() for writer in writers):
        for user in users:
            found = served(online, user)
            if found is not None:
                assert found[0] >= last[user]
                assert found[0] == day(int(found[1]) // 10), "the time of one write with the values of another"
                last[user] = found[0]
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    for user in users:
        assert served(online, user) == (day(39), 392.0, "space-392")


def test_a_write_that_breaks_in_the_middle_leaves_the_old_row_and_its_clock(online, user):
    from pipeline.stores.feature_store import open_feature_store

    class Unwritable:
        """Neither a database nor a wire knows what to do with it."""

    push(online, row(user, day(1), known_at=day(1), mark=1))
    store = open_feature_store(online)
    [encoded] = _encoded([row(user, day(5), known_at=day(5), mark=5)])
    broken = encoded._replace(values={**encoded.values, "space_id": Unwritable()})
    with pytest.raises(EngineFailure):
        store.provider.online_store.write_fenced(store.config, store.get_feature_view(VIEW), [broken])
    assert served(online, user) == (day(1), 1.0, "space-1")
    assert push(online, row(user, day(5), known_at=day(5), mark=5)).accepted == 1


def _encoded(rows: list[dict]) -> list:
    """As a push lays it out, before the processes fork: Polars' threads do not survive a fork."""
    from pipeline.stores.encoding import encode_rows

    return encode_rows(frame(*rows), "user_id", FEATURES)


def _write(online: Settings, encoded: list, seed: int) -> None:
    from pipeline.stores.feature_store import open_feature_store

    store = open_feature_store(online)
    view = store.get_feature_view(VIEW)
    random.Random(seed).shuffle(encoded)
    for start in range(0, len(encoded), 40):
        store.provider.online_store.write_fenced(store.config, view, encoded[start : start + 40])


def test_feasts_own_ways_in_pass_the_fence_too(online, user):
    """`write_to_online_store` and `materialize` of an old interval, which Feast's SQLite store lets overwrite."""
    from pipeline.stores.feature_store import open_feature_store
    from pipeline.stores.tables import Lake

    Lake(online.lake_url).replace(LONG_TERM_INTEREST, Day.of(day(2)), frame(row(user, day(2), day(10), mark=2)))
    store = open_feature_store(online)
    push(online, row(user, day(9), known_at=day(9), mark=9))
    store.write_to_online_store(VIEW, frame(row(user, day(3), day(11), mark=3)).to_pandas())
    assert served(online, user) == (day(9), 9.0, "space-9")
    store.materialize(day(0), day(4), feature_views=[VIEW])
    assert served(online, user) == (day(9), 9.0, "space-9")


def test_the_newest_event_time_online_is_known(online, user):
    from pipeline.stores.feature_store import newest_online

    push(online, row(user, day(90), known_at=day(90)))
    push(online, row(user, day(1), known_at=day(91)))
    newest = newest_online(online)
    assert newest[VIEW] == day(90)
    assert newest["item_text"] is None


CLOCKS = st.builds(Clock, st.integers(-(2**61), 2**61), st.integers(-(2**61), 2**61))


@given(CLOCKS, CLOCKS)
def test_the_digits_of_clocks_compare_as_the_clocks_do(one, other):
    assert (one.digits() > other.digits()) == is_newer(one, other)
    assert len(one.digits()) == 40


def test_a_row_that_does_not_say_when_it_was_written_is_the_oldest_of_its_time():
    assert is_newer(Clock.of(day(1), day(0)), Clock.of(day(1), None))
    assert is_newer(Clock.of(day(2), None), Clock.of(day(1), day(9)))
    assert is_newer(Clock.of(day(1), None), None)
