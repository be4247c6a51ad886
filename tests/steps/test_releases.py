from datetime import timedelta

import polars as pl
import pytest

from pipeline.contracts import LONG_TERM_INTEREST, RECOMMENDATIONS, SEQUENCE_FEATURES
from pipeline.errors import EngineFailure, NotFound, UnsafeModel, UserMistake
from pipeline.faults import arm
from pipeline.partitions import Day
from pipeline.steps.interest_evolution import gate_interest_model
from pipeline.steps.ledger_rebuild import rebuild_ledger
from pipeline.steps.long_term_interest import embed_users
from pipeline.steps.online_parity import compare_online
from pipeline.steps.recommendations import recommend_items
from pipeline.steps.releases import INTEREST, RELEASE, restate_release, roll_back
from pipeline.stores.feature_store import open_feature_store
from pipeline.stores.ledger import Ledger
from pipeline.stores.promotions import promote
from pipeline.stores.registry import CHAMPION, Registry
from pipeline.stores.tables import Lake

TABLES = (LONG_TERM_INTEREST, RECOMMENDATIONS)
WHY = ["lists of one category", "somebody"]


@pytest.fixture
def days(planted_start) -> list[Day]:
    """The first day of the second release, the one before, and two after it."""
    first = Day.of(planted_start + timedelta(weeks=8))
    return [first.plus(offset) for offset in range(-1, 3)]


@pytest.fixture
def served(two_releases, days, known_at):
    """Both models serve the first three of the days."""
    for day in days[:3]:
        embed_users(day, two_releases, known_at)
        recommend_items(day, two_releases, known_at)
    return two_releases


def versions_of(settings, table, day: Day) -> set[tuple[int, str]]:
    return set(Lake.of(settings).current(table, day, day).select("model_version", "space_id").collect().rows())


def online_spaces(settings) -> set[str]:
    users = [{"user_id": f"u{number:02d}"} for number in range(80)]
    found = open_feature_store(settings).get_online_features(
        [f"{table.name}:space_id" for table in TABLES], users, full_feature_names=True
    )
    return {space for name, values in found.to_dict().items() if name != "user_id" for space in values}


def served_otherwise(settings, day: Day) -> list[str]:
    """Users whose served vector is not the one of the table."""
    views = {view.view: view for view in compare_online(day, settings)}
    return list(views[LONG_TERM_INTEREST.name].differing)


@pytest.fixture(autouse=True)
def disarmed():
    yield
    arm("")


def spaces(settings) -> list[str]:
    return [version.space_id for version in Registry(settings).versions(INTEREST)]


def test_a_rollback_replaces_what_is_served_of_everybody_and_no_day_of_the_past(served, days, known_at):
    first, second = spaces(served)
    before = [Lake.of(served).current(table, None, days[1]).collect() for table in TABLES]
    assert online_spaces(served) == {second}
    done = roll_back(None, *WHY, served, known_at + timedelta(hours=1))
    assert (done.from_version, done.to_version, done.from_space, done.to_space) == (2, 1, second, first)
    assert (done.vectors, done.lists) == (80, 80)
    assert online_spaces(served) == {first}
    for table, standing in zip(TABLES, before, strict=True):
        assert Lake.of(served).current(table, None, days[1]).collect().equals(standing)
        assert versions_of(served, table, days[2]) == {(1, first)}


def test_days_after_a_rollback_are_served_by_the_older_release_and_the_past_is_computed_as_before(
    served, days, known_at
):
    first, second = spaces(served)
    roll_back(None, *WHY, served, known_at + timedelta(hours=1))
    later = known_at + timedelta(hours=2)
    assert embed_users(days[3], served, later).model_version == 1
    assert recommend_items(days[3], served, later).interest_version == 1
    states = [Lake.of(served).version(table) for table in TABLES]
    for day in days:
        embed_users(day, served, later)
        recommend_items(day, served, later)
    assert restate_release(served, later).interest == []
    assert [Lake.of(served).version(table) for table in TABLES] == states
    assert versions_of(served, LONG_TERM_INTEREST, days[1]) == {(2, second)}
    assert online_spaces(served) == {first}


def test_a_rollback_is_a_line_of_its_own_in_the_ledger_and_survives_its_rebuild(served, known_at):
    at = known_at + timedelta(hours=1)
    roll_back(None, *WHY, served, at)
    ledger = Ledger(served.ledger_url)
    for model in (INTEREST, RELEASE):
        lines = ledger.promotions(model)
        assert [line.decision for line in lines] == ["promoted", "promoted", "rolled_back"]
        assert (lines[2].from_version, lines[2].to_version, lines[2].decided_by) == (2, 1, "somebody")
        assert (lines[2].reasons, lines[2].decided_at) == (["lists of one category"], at)
    standing = ledger.promotions()
    rebuild_ledger(served)
    assert ledger.promotions() == standing


def test_both_models_go_back_together_and_no_training_builds_on_what_was_withdrawn(served, known_at):
    roll_back(None, *WHY, served, known_at)
    registry = Registry(served)
    for model in (INTEREST, RELEASE):
        assert registry.champion(model).number == registry.aliased(model, CHAMPION).number == 1
        assert registry.version(model, 2).status == "rolled_back"
    cutoff = registry.version(INTEREST, 2).model_cutoff
    assert registry.standing(INTEREST, cutoff + timedelta(weeks=1)).number == 1


def test_the_gate_of_a_withdrawn_version_runs_again_and_changes_nothing(served, known_at):
    roll_back(None, *WHY, served, known_at)
    registry = Registry(served)
    version = registry.version(INTEREST, 2)
    outcome = gate_interest_model(version.model_cutoff, served, known_at)
    assert not outcome.promoted
    assert registry.version(INTEREST, 2) == version


def test_a_rollback_can_itself_be_taken_back(served, days, known_at):
    first, second = spaces(served)
    roll_back(None, *WHY, served, known_at + timedelta(hours=1))
    embed_users(days[3], served, known_at + timedelta(hours=2))
    done = roll_back(2, "it was the log, not the model", "somebody", served, known_at + timedelta(hours=3))
    assert (done.from_version, done.to_version, done.withdrawn) == (1, 2, [])
    assert online_spaces(served) == {second}
    assert [versions_of(served, LONG_TERM_INTEREST, day) for day in days[1:]] == [
        {(2, second)}, {(1, first)}, {(2, second)},
    ]
    assert Registry(served).aliased(RELEASE, CHAMPION).number == 2


def test_a_rollback_that_was_interrupted_is_finished_by_naming_its_version(served, known_at, monkeypatch):
    from pipeline.steps import releases

    with monkeypatch.context() as broken, pytest.raises(ZeroDivisionError):
        broken.setattr(releases, "embed_users", lambda *args, **kwargs: 1 / 0)
        roll_back(None, *WHY, served, known_at + timedelta(hours=1))
    assert online_spaces(served) == {spaces(served)[1]}
    done = roll_back(1, *WHY, served, known_at + timedelta(hours=2))
    assert (done.vectors, done.lists) == (80, 80)
    assert online_spaces(served) == {spaces(served)[0]}
    assert roll_back(1, *WHY, served, known_at + timedelta(hours=3)).vectors == 0


def test_a_release_that_this_code_cannot_read_moves_nothing(served, known_at, monkeypatch):
    from pipeline.steps import releases

    def load_what_older_code_saved(registry, version):
        raise KeyError("a field of another version")

    monkeypatch.setattr(releases, "load_release", load_what_older_code_saved)
    with pytest.raises(UnsafeModel, match="saved by another version of it"):
        roll_back(None, *WHY, served, known_at + timedelta(hours=1))
    assert Registry(served).champion(RELEASE).number == 2
    assert online_spaces(served) == {spaces(served)[1]}


def test_what_cannot_be_rolled_back_to_is_said(trained, known_at):
    with pytest.raises(NotFound, match="nothing to go back to"):
        roll_back(None, *WHY, trained, known_at)
    with pytest.raises(NotFound, match="no version 9"):
        roll_back(9, *WHY, trained, known_at)


def test_a_version_that_was_held_is_no_release(two_releases, known_at):
    registry = Registry(two_releases)
    registry.mlflow.client.set_model_version_tag(RELEASE, "1", "status", "held")
    with pytest.raises(UserMistake, match="is held, so it never served"):
        roll_back(1, *WHY, two_releases, known_at)


def test_vectors_wait_for_the_release_that_can_read_them(two_releases, days, known_at):
    registry = Registry(two_releases)
    registry.mlflow.client.set_model_version_tag(RELEASE, "2", "status", "held")
    assert embed_users(days[1], two_releases, known_at).model_version == 1
    registry.mlflow.client.set_model_version_tag(RELEASE, "2", "status", "promoted")
    restated = restate_release(two_releases, known_at + timedelta(hours=1))
    assert [(done.day, done.model_version) for done in restated.interest] == [(days[1].key, 2)]
    rows = Lake.of(two_releases).read(LONG_TERM_INTEREST, days[1])
    assert rows.filter(pl.col("model_version") == 1).height > 0, "what was known before is kept"


@pytest.mark.parametrize("push", [1, 2])
def test_a_promotion_that_died_before_a_push_is_served_by_the_next_try(two_releases, days, known_at, push):
    registry = Registry(two_releases)
    registry.mlflow.client.set_model_version_tag(RELEASE, "2", "status", "candidate")
    embed_users(days[1], two_releases, known_at)
    recommend_items(days[1], two_releases, known_at)
    _, second = spaces(two_releases)
    assert second not in online_spaces(two_releases)
    promote(registry, registry.version(RELEASE, 2), WHY, "somebody", known_at)
    arm(f"push.before_batch:raise:{push}")
    with pytest.raises(EngineFailure, match="fault"):
        restate_release(two_releases, known_at + timedelta(hours=1))
    arm("")

    restate_release(two_releases, known_at + timedelta(hours=2))

    assert online_spaces(two_releases) == {second}


def test_a_late_correction_that_died_before_its_push_is_served_by_the_next_try(served, days, known_at):
    lake, later = Lake.of(served), known_at + timedelta(hours=1)
    rows = lake.current(SEQUENCE_FEATURES, days[2], days[2]).collect()
    created = pl.lit(later).cast(rows.schema["created"]).alias("created")
    lake.replace(SEQUENCE_FEATURES, days[2], rows.with_columns(pl.col("item_ids").list.reverse(), created))
    arm("push.before_batch:raise:2")
    with pytest.raises(EngineFailure, match="fault"):
        embed_users(days[1], served, later + timedelta(hours=1))
    arm("")
    assert served_otherwise(served, days[2])

    embed_users(days[1], served, later + timedelta(hours=2))

    assert served_otherwise(served, days[2]) == []
