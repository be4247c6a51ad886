import sys
from datetime import UTC, datetime

import pytest

from pipeline.contracts import BEHAVIOR_EVENTS
from pipeline.settings import Settings
from pipeline.steps.status import read_status
from pipeline.stores.served import ServedView, served_views

KNOWN_AT = datetime(2026, 3, 2, 12, tzinfo=UTC)


def test_the_status_of_an_empty_home_is_empty_and_makes_no_ledger(interest, settings):
    answer = interest("status", "--json")

    assert answer.code == 0
    assert answer.json["partitions"] == answer.json["tables"] == answer.json["models"] == []
    assert not settings.place("ledger.db").exists()


def test_partitions_come_with_state_counts_version_and_warnings(filled, interest):
    found = interest("status", "--json").json

    days = [p for p in found["partitions"] if p["table"] == "behavior_events"]
    assert [day["partition"] for day in days][-2:] == ["2026-02-28", "2026-03-01"]
    assert days[-1]["state"] == "published"
    assert days[-1]["counts"] == {"read": 32, "published": 30, "quarantined": 1, "duplicates": 1}
    assert days[-1]["version"] == filled.version(BEHAVIOR_EVENTS)
    assert days[-1]["warnings"] == ["volume is low"]
    table = next(t for t in found["tables"] if t["table"] == "behavior_events")
    assert (table["partitions"], table["first"], table["last"]) == (8, "2026-01-21", "2026-03-01")
    assert table["counts"]["published"] == 240
    assert found["quarantine"] == {"<script>alert(1)</script>": 8}


def test_people_get_tables_in_which_data_is_not_obeyed(filled, interest):
    answer = interest("status", "--days", "2")

    assert answer.code == 0
    assert "2026-03-01" in answer.out and "2026-01-21" in answer.out
    assert "2026-02-18" not in answer.out  # an older day, not listed
    assert "<script>alert(1)</script>" in answer.out  # text, on a terminal


def test_a_failed_day_is_shown_however_old_it_is(filled, ledger, interest):
    record = ledger.partition("behavior_events", "2026-01-21")
    ledger.record_partition(record.model_copy(update={"state": "failed", "details": {"failures": ["[red]too few[/]"]}}))

    shown = interest("status", "--days", "1").out

    assert "2026-01-21" in shown
    assert "[red]too few[/]" in shown


def test_a_registered_version_is_shown_as_the_registry_itself_tells_it(filled, settings, interest, tmp_path):
    import polars as pl

    from pipeline.stores.model_versions import MODELS, Card
    from pipeline.stores.promotions import promote
    from pipeline.stores.registered import registered_versions
    from pipeline.stores.registration import register
    from pipeline.stores.registry import Registry

    registry = Registry(settings)
    for number, day in enumerate((8, 1), start=1):  # the older cutoff comes second
        folder = tmp_path / f"model-{number}"
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        card = Card(
            model_cutoff=datetime(2026, 2, day, tzinfo=UTC),
            trained_until=datetime(2026, 1, day, tzinfo=UTC),
            space_id="s1",
            loader="pipeline.stores.model_files",
            example=pl.DataFrame({"user_id": ["u"]}),
            answer=pl.DataFrame({"user_id": ["u"]}),
        )
        version = register(registry, MODELS[0], f"interest_evolution@2026-02-0{day}", folder, card)
        promote(registry, version, ["better"], "gate", KNOWN_AT)

    quick = registered_versions(settings, MODELS)

    assert [entry.version for entry in quick] == registry.versions(MODELS[0])
    holders = {alias: entry.version.number for entry in quick for alias in entry.aliases}
    assert holders == {alias: registry.aliased(MODELS[0], alias).number for alias in ("champion", "challenger")}
    shown = interest("status", "--json").json["models"]
    assert [(m["version"], m["status"]) for m in shown] == [(2, "promoted"), (1, "promoted")]
    assert shown[1]["aliases"] == ["challenger", "champion"]


def test_what_is_served_is_read_from_the_clocks_of_the_fence(settings):
    import sqlite3

    settings.online_path.parent.mkdir(parents=True)
    with sqlite3.connect(settings.online_path) as connection:
        connection.execute('CREATE TABLE "interest_recommendations_rows" (entity_key BLOB, event_us INTEGER)')
        connection.executemany('INSERT INTO "interest_recommendations_rows" VALUES (?, ?)', [(b"a", 1), (b"b", 2)])
    connection.close()

    assert served_views(settings, ["recommendations", "item_text"]) == [
        ServedView("recommendations", datetime(1970, 1, 1, 0, 0, 0, 2, tzinfo=UTC), 2),
        ServedView("item_text", None, None),
    ]


def test_a_damaged_online_store_is_one_line_and_an_exit_code(settings, interest):
    settings.online_path.parent.mkdir(parents=True)
    settings.online_path.write_bytes(b"this is no database, it only looks like a file" * 100)

    answer = interest("status")

    assert answer.code == 5
    assert len(answer.err.splitlines()) == 1
    assert "online store" in answer.err


def test_the_status_is_quick_because_neither_feast_nor_mlflow_is_imported(home):
    import subprocess

    program = (
        "import sys\nfrom datetime import UTC, datetime\nfrom pipeline.settings import Settings\n"
        "from pipeline.steps.status import read_status\n"
        f"read_status(Settings.load(home={str(home)!r}), datetime(2026, 1, 1, tzinfo=UTC))\n"
        "print([name for name in ('feast', 'mlflow', 'torch', 'airflow', 'pandas') if name in sys.modules])"
    )

    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    assert said.strip() == "[]"


def test_the_age_of_what_is_served_counts_from_the_time_that_is_given(filled, settings: Settings):
    found = read_status(settings, KNOWN_AT)

    assert found.known_at == KNOWN_AT
    assert all(view.age_seconds is None for view in found.online)


@pytest.mark.parametrize("arguments", [("--days", "-1"), ("--days", "many"), ("--nonsense",)])
def test_a_wrong_argument_is_refused(interest, arguments):
    assert interest("status", *arguments).code == 2
