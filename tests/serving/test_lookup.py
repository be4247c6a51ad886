"""A look-up always answers: what is served, from when, or that nobody knows the user."""

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from typer.testing import CliRunner

from pipeline.contracts import INTEREST_WINDOWS, LONG_TERM_INTEREST, RECOMMENDATIONS, duration_of
from pipeline.errors import NotFound, UserMistake
from pipeline.settings import Settings

AS_OF = datetime(2026, 3, 1, 23, 59, 59, 999999, tzinfo=UTC)
NOW = AS_OF + timedelta(hours=6)
RUDE = "[red]\x1b[2Jrude"


@pytest.fixture(scope="module")
def serving(tmp_path_factory) -> Settings:
    from pipeline.stores.feature_store import apply_definitions, push_online

    settings = Settings.load(home=tmp_path_factory.mktemp("home"))
    apply_definitions(settings)
    clocks = {"event_timestamp": AS_OF, "created": NOW}
    model = {"space_id": "s1", "model_version": 3, "model_cutoff": AS_OF - timedelta(days=1)}
    vector = {"user_id": "anna", "vector": [0.6, 0.8], **model, **clocks}
    push_online(settings, "long_term_interest", pl.DataFrame([vector], schema=LONG_TERM_INTEREST.schema))
    best = [
        {"user_id": user, "item_ids": [RUDE, "i2"], "scores": [2.0, 1.0], **model, **clocks} for user in ("anna", RUDE)
    ]
    push_online(settings, "recommendations", pl.DataFrame(best, schema=RECOMMENDATIONS.schema))
    window = {
        "user_id": "anna",
        "categories": ["a", "b"],
        "counts_7d": [1.0, 0.5],
        "counts_30d": [1.0, 0.75],
        "counts_180d": [1.0, 0.9],
        "top_categories": ["a", "b"],
        "entropy": 0.68,
        "num_events": 2,
        "active_days": 1,
        "days_since_previous": None,
        **clocks,
    }
    push_online(settings, "interest_windows", pl.DataFrame([window], schema=INTEREST_WINDOWS.schema))
    return settings


def command(settings: Settings, *arguments: str):
    from pipeline.cli.app import app

    return CliRunner().invoke(app, ["--home", str(settings.home), "lookup", *arguments])


def test_an_answer_carries_values_event_time_age_model_version_and_space(serving):
    from pipeline.serving.lookup import look_up

    answer = look_up(serving, "anna", "ranking_v1", NOW)
    assert answer.status == "found"
    view = answer.views["long_term_interest"]
    assert view.values["vector"] == pytest.approx([0.6, 0.8])
    assert (view.event_time, view.age_seconds) == (AS_OF, 6 * 3600)
    assert (view.model_version, view.space_id, view.is_expired) == (3, "s1", False)
    assert answer.views["interest_windows"].values["counts_7d"] == [1.0, 0.5]
    assert answer.views["interest_windows"].values["days_since_previous"] is None
    assert answer.views["sequence_features"].status == "not_found"


def test_a_row_past_its_time_to_live_is_marked(serving):
    from pipeline.serving.lookup import look_up

    view = look_up(serving, "anna", "ranking_v1", AS_OF + timedelta(days=29)).views["long_term_interest"]
    assert view.is_expired


def test_a_view_whose_newest_row_is_older_than_the_promise_is_stale(serving):
    from pipeline.serving.lookup import look_up

    kept = look_up(serving, "anna", "ranking_v1", AS_OF + timedelta(hours=26))
    assert {view.status for view in kept.views.values()} == {"found", "not_found"}
    assert (kept.status, kept.views["long_term_interest"].promise_seconds) == ("found", 26 * 3600)
    broken = look_up(serving, "anna", "ranking_v1", AS_OF + timedelta(hours=26, microseconds=1))
    assert (broken.status, broken.views["interest_windows"].status) == ("stale", "stale")
    assert broken.views["interest_windows"].values["counts_7d"] == [1.0, 0.5]
    assert broken.views["sequence_features"].status == "not_found"


def test_the_old_row_of_a_user_who_was_away_is_not_stale_in_a_view_that_is_kept_up_to_date(serving):
    from pipeline.serving.lookup import look_up
    from pipeline.stores.feature_store import push_online

    later = AS_OF + timedelta(days=3)
    row = {"user_id": "berta", "vector": [1.0, 0.0], "space_id": "s1", "model_version": 3, "model_cutoff": AS_OF}
    row |= {"event_timestamp": later - timedelta(hours=6), "created": later}
    push_online(serving, "long_term_interest", pl.DataFrame([row], schema=LONG_TERM_INTEREST.schema))
    views = look_up(serving, "anna", "ranking_v1", later).views
    vector, windows = views["long_term_interest"], views["interest_windows"]
    assert (vector.status, vector.age_seconds, vector.view_age_seconds) == ("found", 72 * 3600, 6 * 3600)
    assert (windows.status, windows.view_age_seconds) == ("stale", 72 * 3600)


@pytest.mark.parametrize(("promise", "hours"), [("90m", 1.5), ("26h", 26), ("7d", 168)])
def test_a_promise_is_a_number_of_minutes_hours_or_days(promise, hours):
    assert duration_of(promise) == timedelta(hours=hours)
    with pytest.raises(ValueError, match="26h"):
        duration_of(f"{promise} or so")


def test_every_view_and_service_makes_a_promise_that_can_be_kept_to(serving):
    from pipeline.stores.feature_store import open_feature_store

    store = open_feature_store(serving)
    for promising in (*store.list_feature_views(), *store.list_feature_services()):
        is_on_request = "reencoded" in promising.tags or "mapped" in promising.tags  # written when it is asked for
        if promising.name != "item_text" and not is_on_request:  # a text holds until the item changes
            assert duration_of(promising.tags["freshness"]), promising.name


def test_the_command_says_that_an_answer_is_stale_and_by_how_much(serving):
    result = command(serving, "anna", "--service", "ranking_v1")
    assert result.exit_code == 0
    assert "stale: the newest row of the view is" in result.stdout
    assert "promised are 26" in result.stdout


@pytest.mark.parametrize("service", ["ranking_v1", "support_profile_v1", "training_v1"])
def test_an_unknown_user_is_an_answer(serving, service):
    from pipeline.serving.lookup import look_up

    answer = look_up(serving, "nobody", service, NOW)
    assert answer.status == "not_found"
    assert {view.status for view in answer.views.values()} == {"not_found"}


def test_an_unknown_service_is_answered_with_those_that_exist(serving):
    from pipeline.serving.lookup import look_up

    with pytest.raises(NotFound, match="ranking_v1, support_profile_v1, training_reencoded_v1, training_v1"):
        look_up(serving, "anna", "ranking_v9", NOW)


@pytest.mark.parametrize("user", ["", "x" * 257])
def test_an_id_that_no_log_can_carry_is_refused(serving, user):
    from pipeline.serving.lookup import look_up

    with pytest.raises(UserMistake, match="1 to 256 characters"):
        look_up(serving, user, "ranking_v1", NOW)


def test_before_anything_is_applied_the_answer_says_what_to_do(settings):
    from pipeline.serving.lookup import look_up

    with pytest.raises(NotFound, match="No definitions are applied yet"):
        look_up(settings, "anna", "ranking_v1", NOW)


def test_the_command_prints_one_json_object(serving):
    result = command(serving, "anna", "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["service"] == "support_profile_v1"
    assert answer["views"]["recommendations"]["space_id"] == "s1"


def test_the_command_answers_an_unknown_user_with_json_a_line_and_exit_code_2(serving):
    result = command(serving, "nobody", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["status"] == "not_found"
    assert result.stderr.startswith("error: User 'nobody' is not served")
    assert result.stderr.count("\n") == 1


def test_the_command_answers_an_unknown_service_with_one_line_and_exit_code_2(serving):
    result = command(serving, "anna", "--service", "nothing")
    assert result.exit_code == 2
    assert "ranking_v1" in result.stderr and result.stderr.count("\n") == 1
    assert "Traceback" not in result.output


def test_ids_from_a_log_cannot_command_the_terminal(serving):
    for user in (RUDE, f"{RUDE} unknown"):
        result = command(serving, user)
        assert "\x1b" not in result.output
    assert "[red]\\x1b[2Jrude" in command(serving, RUDE).stdout
