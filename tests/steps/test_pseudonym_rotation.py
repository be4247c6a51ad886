"""With `privacy.pseudonymise` no id is at rest anywhere, everybody is found by their own id, also after a rotation."""

import json
from datetime import timedelta

import polars as pl
import pytest

from pipeline.contracts import BEHAVIOR_EVENTS, QUARANTINED_EVENTS, SEQUENCE_FEATURES
from pipeline.errors import BadSetting
from pipeline.events.mapping import Mapping
from pipeline.partitions import Day
from pipeline.privacy.pseudonyms import Pseudonyms
from pipeline.settings import Privacy, Settings
from pipeline.steps.pseudonym_rotation import rotate_pseudonyms
from pipeline.stores.keys import pseudonym_keys
from pipeline.stores.ledger import Ledger
from pipeline.stores.tables import Lake

FIRST = Day.parse("2025-03-01")
NOW = FIRST.plus(20).start
USERS = ["anna-the-first", "ben-the-second", "cleo-the-third"]
MAPPING = Mapping.model_validate(
    {"events": {"columns": {"user_id": "who", "item_id": "what", "event_time": "when"}, "time": {},
                "event_type": {"constant": "view"}}}
)


@pytest.fixture
def hidden(home) -> Settings:
    """A home with pseudonyms on, a log loaded, and a file that a collector dropped with plain ids in it."""
    from pipeline.steps.behavior_logs import load_logs
    from pipeline.stores.feature_store import apply_definitions

    settings = Settings.load(home=home, privacy=Privacy(pseudonymise=True))
    Ledger(settings.ledger_url).migrate()
    apply_definitions(settings)
    load_logs(log_of(home.parent), None, MAPPING, settings, NOW)
    dropped = settings.landing_path / "behavior_events" / FIRST.key
    (dropped / "a.csv").write_text(
        "user_id,item_id,event_type,event_time,value,ingested_at\n"
        f"{USERS[0]},i7,view,{FIRST.key}T20:00:00Z,,{FIRST.key}T21:00:00Z\n"
        f" ,i7,view,{FIRST.key}T20:00:00Z,,{FIRST.key}T21:00:00Z\n"
    )
    (dropped / "b.jsonl").write_text(
        json.dumps({"user_id": USERS[1], "item_id": "i8", "event_type": "unheard", "value": None,
                    "event_time": f"{FIRST.key}T20:00:00Z", "ingested_at": f"{FIRST.key}T21:00:00Z"}) + "\n"
    )
    publish(settings)
    return settings


def log_of(folder):
    lines = [f"{user},i{n},{FIRST.plus(n).key}T0{m}:00:00Z" for n in range(3) for m, user in enumerate(USERS * 3)]
    file = folder / "log.csv"
    file.write_text("\n".join(["who,what,when", *lines]) + "\n")
    return file


def publish(settings: Settings):
    from pipeline.steps.history import restate_history

    return restate_history(FIRST, FIRST.plus(2), settings, NOW)


def plain_ids_at(settings: Settings) -> list[str]:
    found = []
    for file in (f for f in settings.place("").rglob("*") if f.is_file()):
        rows = pl.read_parquet(file, hive_partitioning=False) if file.suffix == ".parquet" else pl.DataFrame()
        content = file.read_bytes() + rows.write_json().encode()
        found += [f"{file}: {user}" for user in USERS if user.encode() in content]
    return found


def looked_up(settings: Settings, user: str):
    from pipeline.serving.lookup import look_up

    return look_up(settings, user, "support_profile_v1", NOW)


def test_no_id_is_at_rest_and_a_question_by_id_is_answered_with_it(hidden: Settings):
    assert plain_ids_at(hidden) == []
    names = Lake.of(hidden).scan(BEHAVIOR_EVENTS).collect()["user_id"]
    assert names.n_unique() == 3 and names.str.starts_with("u1.").all()
    answer = looked_up(hidden, USERS[0])
    assert answer.user_id == USERS[0] and answer.status != "not_found"
    assert looked_up(hidden, names[0]).status != "not_found"  # the name that stands in a table finds its row, too
    assert looked_up(hidden, "dora").status == "not_found"
    reasons = Lake.of(hidden).scan(QUARANTINED_EVENTS).collect().sort("reason")["reason"].to_list()
    assert reasons == ["event_type_not_allowed", "user_id_empty"]  # what is no id is judged as it came


def test_reading_and_loading_again_changes_nothing(hidden: Settings):
    from pipeline.steps.behavior_logs import load_logs

    log = hidden.home.parent / "log.csv"
    assert not publish(hidden).events.changed
    assert not load_logs(log, None, MAPPING, hidden, NOW + timedelta(days=1)).changed
    rotate_pseudonyms(hidden, NOW, new_key=True)
    assert not publish(hidden).events.changed
    assert not load_logs(log, None, MAPPING, hidden, NOW + timedelta(days=1)).changed


def test_a_training_set_is_asked_for_by_id(hidden: Settings):
    from pipeline.serving.training_set import training_set

    asked = pl.DataFrame({"user_id": USERS, "event_timestamp": [FIRST.plus(2).end] * 3})
    made = training_set(asked, "support_profile_v1", hidden, known_at=NOW)
    assert made.rows["user_id"].to_list() == USERS
    assert made.manifest.without_features["interest_windows"] == 0


def test_a_rotation_renames_everybody_everywhere_and_loses_nobody(hidden: Settings):
    lake = Lake.of(hidden)
    before = {t: lake.scan(t).collect() for t in (BEHAVIOR_EVENTS, SEQUENCE_FEATURES)}
    served = looked_up(hidden, USERS[0])
    old = set(before[BEHAVIOR_EVENTS]["user_id"])
    rotated = rotate_pseudonyms(hidden, NOW, new_key=True)
    assert rotated.rows["behavior_events"] == before[BEHAVIOR_EVENTS].height and rotated.served == 3
    assert plain_ids_at(hidden) == []
    for table, rows in before.items():
        after = lake.scan(table).collect()
        assert after["user_id"].str.starts_with("u2.").all() and after["user_id"].n_unique() == 3
        assert sorted(map(str, after.drop("user_id").rows())) == sorted(map(str, rows.drop("user_id").rows()))
    assert looked_up(hidden, USERS[0]).views == served.views
    for file in (f for f in hidden.place("").rglob("*") if f.is_file()):
        content = file.read_bytes().decode("latin-1")
        packed = pl.read_parquet(file, hive_partitioning=False).write_json() if file.suffix == ".parquet" else ""
        assert not [name for name in old if name in content or name in packed], file
    again = rotate_pseudonyms(hidden, NOW, new_key=False)  # as after a crash: nothing is left to do
    assert sum(again.rows.values()) == again.files == again.served == 0


def test_who_was_erased_before_a_rotation_stays_erased(hidden: Settings):
    from pipeline.steps.behavior_logs import load_logs
    from pipeline.steps.erasure import forget_user, verify_receipt

    receipt = forget_user(USERS[0], "asked", hidden, NOW)
    assert receipt.is_verified
    assert receipt.place("behavior_events").removed == 10  # nine loaded, one dropped
    rotate_pseudonyms(hidden, NOW, new_key=True)
    assert load_logs(hidden.home.parent / "log.csv", None, MAPPING, hidden, NOW).erased == 9
    publish(hidden)
    assert Lake.of(hidden).scan(BEHAVIOR_EVENTS).collect()["user_id"].n_unique() == 2
    assert looked_up(hidden, USERS[0]).status == "not_found"
    assert verify_receipt(receipt.receipt, hidden, NOW).is_verified


def test_ids_that_lie_open_are_hidden_when_it_is_switched_on_late(home):
    from pipeline.steps.behavior_logs import load_logs
    from pipeline.stores.feature_store import apply_definitions

    settings = Settings.load(home=home)
    Ledger(settings.ledger_url).migrate()
    apply_definitions(settings)
    load_logs(log_of(home.parent), None, MAPPING, settings, NOW)
    publish(settings)
    assert plain_ids_at(settings)
    with pytest.raises(BadSetting, match="is off"):
        rotate_pseudonyms(settings, NOW, new_key=False)
    late = Settings.load(home=home, privacy=Privacy(pseudonymise=True))
    rotate_pseudonyms(late, NOW, new_key=False)
    assert plain_ids_at(late) == []
    assert looked_up(late, USERS[2]).status != "not_found"


def test_keys_from_the_settings_are_used_and_never_written(home):
    given = Privacy(pseudonymise=True, pseudonym_keys="k" * 40 + "," + "l" * 40)
    settings = Settings.load(home=home, privacy=given)
    assert pseudonym_keys(settings) == (b"k" * 40, b"l" * 40) and "kkk" not in repr(settings)
    assert Pseudonyms(pseudonym_keys(settings)).stored_id("anna").startswith("u2.")
    with pytest.raises(BadSetting, match="given by the setting"):
        rotate_pseudonyms(settings, NOW, new_key=True)
    with pytest.raises(BadSetting, match="at least 32"):
        pseudonym_keys(Settings.load(home=home, privacy=Privacy(pseudonym_keys="short")))
    with pytest.raises(BadSetting, match="every machine must have the same keys"):
        pseudonym_keys(Settings.load(home=home, profile="production"))
    assert not settings.place("secrets").exists()
