from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pipeline.contracts import BEHAVIOR_EVENTS, RECOMMENDATIONS
from pipeline.errors import NotFound, UserMistake
from pipeline.partitions import Day
from pipeline.serving.recommend import SCHEMA, recommend, titles_of
from pipeline.steps.recommendations import recommend_items
from pipeline.steps.sequence_features import build_features
from pipeline.stores.registry import Registry
from pipeline.stores.tables import Lake

NOW = datetime(2025, 11, 3, 12, tzinfo=UTC)


@pytest.fixture
def first_day(planted_start) -> Day:
    """The first day that the trained release serves."""
    return Day.of(planted_start + timedelta(weeks=7))


def test_an_answer_carries_rank_score_release_event_time_and_age(trained):
    answer = recommend(trained, ["u03", "u01"], 5, NOW)
    version = Registry(trained).champion("collaborative_filter")
    person = answer.by_user(titles_of(trained, answer.rows["item_id"].to_list()), NOW)[0]
    assert dict(answer.rows.schema) == SCHEMA
    assert answer.rows["user_id"].to_list() == ["u03"] * 5 + ["u01"] * 5
    assert answer.rows["rank"].to_list() == [1, 2, 3, 4, 5] * 2
    assert (answer.model_version, answer.space_id) == (version.number, version.space_id)
    assert (person.status, person.fallback) == ("found", False)
    assert person.age_seconds == (NOW - person.event_time).total_seconds() > 0
    assert person.items[0].title == f"title {int(person.items[0].item_id[1:])}"


def test_as_of_a_day_the_answer_is_that_of_the_daily_table(trained, first_day, known_at):
    recommend_items(first_day, trained, known_at)
    table = Lake(trained.lake_url).read(RECOMMENDATIONS, first_day)
    answer = recommend(trained, table["user_id"].to_list(), 100, NOW, as_of=first_day)
    for user, items in table.select("user_id", "item_ids").iter_rows():
        assert answer.rows.filter(user_id=user)["item_id"].to_list() == items


def test_as_of_a_day_nothing_later_counts(trained, first_day, known_at):
    before = recommend(trained, ["u03"], 20, NOW, as_of=first_day)
    best, tomorrow = before.rows["item_id"][0], first_day.plus(1)
    lake = Lake(trained.lake_url)
    events = lake.read(BEHAVIOR_EVENTS, tomorrow)
    later = events.head(1).with_columns(event_id=pl.lit("later"), user_id=pl.lit("u03"), item_id=pl.lit(best))
    lake.replace(BEHAVIOR_EVENTS, tomorrow, pl.concat([events, later]))
    build_features(tomorrow, trained, known_at + timedelta(hours=1))
    assert recommend(trained, ["u03"], 20, NOW, as_of=first_day).rows.equals(before.rows)
    assert best not in recommend(trained, ["u03"], 20, NOW, as_of=tomorrow).rows["item_id"].to_list()


def test_an_unknown_user_gets_what_is_popular_marked_as_a_fallback(trained):
    answer = recommend(trained, ["u03", "nobody"], 4, NOW)
    known, unknown = answer.by_user({}, NOW)
    assert (answer.found, answer.not_found) == (1, 1)
    assert (known.status, known.fallback) == ("found", False)
    assert (unknown.status, unknown.fallback, unknown.event_time) == ("not_found", True, None)
    assert len(unknown.items) == 4


def test_before_the_first_release_everybody_gets_what_is_popular(trained, first_day):
    answer = recommend(trained, ["u03"], 4, NOW, as_of=first_day.plus(-1))
    assert answer.model_version is None
    assert answer.rows["fallback"].all()
    assert answer.rows.height == 4


def test_seen_items_come_back_when_they_are_asked_for(trained):
    seen = set(Lake(trained.lake_url).scan(BEHAVIOR_EVENTS).filter(user_id="u03").collect()["item_id"])
    without = set(recommend(trained, ["u03"], 100, NOW).rows["item_id"])
    everything = set(recommend(trained, ["u03"], 100, NOW, include_seen=True).rows["item_id"])
    assert not seen & without
    assert seen & everything


def test_a_user_named_twice_is_answered_once(trained):
    assert recommend(trained, ["u03", "u03"], 5, NOW).rows.height == 5


@pytest.mark.parametrize(
    ("users", "k", "words"),
    [([], 5, "No user"), (["u"], 0, "k must be"), (["u"], 1001, "k must be"), ([""], 5, "1 to 256")],
)
def test_an_impossible_question_says_what_fits(trained, users, k, words):
    with pytest.raises(UserMistake, match=words):
        recommend(trained, users, k, NOW)


def test_without_any_event_it_says_what_to_do(settings, registry):
    with pytest.raises(NotFound, match="interest load"):
        recommend(settings, ["u03"], 5, NOW)
