"""Settings come from arguments, environment and file, and a mistake is one readable line."""

import pytest

from pipeline.errors import BadSetting
from pipeline.settings import Settings


def test_the_environment_wins_over_the_file(home, monkeypatch):
    (home / "settings.toml").write_text("[features]\nsequence_length = 50\n[text]\nbatch_size = 8\n")
    monkeypatch.setenv("INTEREST_FEATURES__SEQUENCE_LENGTH", "70")
    settings = Settings.load(home=home)
    assert (settings.features.sequence_length, settings.text.batch_size) == (70, 8)


def test_an_unknown_setting_is_named(home):
    (home / "settings.toml").write_text("[features]\nsequence_lenght = 50\n")
    with pytest.raises(BadSetting, match=r"features\.sequence_lenght"):
        Settings.load(home=home)


def test_a_value_out_of_range_says_what_fits(home, monkeypatch):
    monkeypatch.setenv("INTEREST_TRAINING__MAX_EPOCHS", "0")
    with pytest.raises(BadSetting, match=r"training\.max_epochs.*greater than or equal to 1"):
        Settings.load(home=home)


def test_a_file_that_is_not_toml_is_named(home):
    (home / "settings.toml").write_text("features = {")
    with pytest.raises(BadSetting, match="not valid TOML"):
        Settings.load(home=home)


def test_a_named_file_that_is_absent_is_an_error(home, monkeypatch):
    monkeypatch.setenv("INTEREST_SETTINGS", str(home / "absent.toml"))
    with pytest.raises(BadSetting, match="does not exist"):
        Settings.load(home=home)


def test_every_setting_says_what_it_is_for():
    unexplained = [
        f"{group}.{name}"
        for group, field in Settings.model_fields.items()
        if hasattr(field.annotation, "model_fields")
        for name, knob in field.annotation.model_fields.items()
        if not knob.description
    ]
    assert unexplained == []


def test_a_time_without_a_zone_is_refused_and_one_with_any_is_utc(home):
    (home / "settings.toml").write_text("[logs]\nearliest_event = 1995-01-01T00:00:00\n")
    with pytest.raises(BadSetting, match=r"logs\.earliest_event.*timezone"):
        Settings.load(home=home)
    (home / "settings.toml").write_text("[logs]\nearliest_event = 1995-01-01T02:00:00+02:00\n")
    assert Settings.load(home=home).logs.earliest_event.isoformat() == "1995-01-01T00:00:00+00:00"


@pytest.mark.parametrize("weight", ["-0.5", "nan", "inf"])
def test_an_event_weighs_a_finite_number_that_is_not_below_nothing(home, weight):
    (home / "settings.toml").write_text(f"[logs]\nevent_weights = {{ view = {weight}, cart = 0 }}\n")
    with pytest.raises(BadSetting, match=r"logs\.event_weights\.view.*(greater|finite)"):
        Settings.load(home=home)
