"""A training set: every row once, what was true or known at its time, nothing later, and the same set again."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable
from typer.testing import CliRunner

from pipeline.contracts import INTEREST_WINDOWS, LONG_TERM_INTEREST, SEQUENCE_FEATURES, UTC_TIME
from pipeline.contracts.content import content_hash
from pipeline.errors import NotFound, UserMistake
from pipeline.partitions import Day
from pipeline.settings import Settings
from pipeline.stores.tables import Lake

FIRST = Day.parse("2026-03-01")
SECOND = FIRST.plus(1)
ON_TIME = timedelta(hours=2)
CORRECTED_AT = FIRST.plus(5).start
KNOWN_AT = datetime(2026, 4, 1, tzinfo=UTC)


def sequences(day: Day, known_at: datetime, **items_of: list[str]) -> pl.DataFrame:
    rows = [
        {
            "user_id": user,
            "item_ids": items,
            "event_types": ["view"] * len(items),
            "event_times": [day.start] * len(items),
            "num_events": len(items),
            "event_timestamp": day.as_of,
            "created": known_at,
        }
        for user, items in items_of.items()
    ]
    return pl.DataFrame(rows, schema=SEQUENCE_FEATURES.schema)


def vectors(day: Day, known_at: datetime, cutoff: datetime, **vector_of: list[float]) -> pl.DataFrame:
    facts = {"space_id": "s", "model_version": 1, "model_cutoff": cutoff, "event_timestamp": day.as_of}
    rows = [{"user_id": user, "vector": v, "created": known_at, **facts} for user, v in vector_of.items()]
    return pl.DataFrame(rows, schema=LONG_TERM_INTEREST.schema)


@pytest.fixture(scope="module")
def home(tmp_path_factory, registry_database: Path) -> Path:
    """Two days on time, the first one corrected later. Ben's vector of that day comes from a model of a later week."""
    from pipeline.stores.feature_store import apply_definitions

    settings = Settings.load(home=tmp_path_factory.mktemp("home"))
    apply_definitions(settings)
    settings.place("mlflow").mkdir()
    shutil.copy(registry_database, settings.place("mlflow/mlflow.db"))
    lake = Lake.of(settings)
    lake.replace(SEQUENCE_FEATURES, FIRST, sequences(FIRST, FIRST.end + ON_TIME, anna=["i1"], ben=["i7"]))
    lake.replace(SEQUENCE_FEATURES, SECOND, sequences(SECOND, SECOND.end + ON_TIME, anna=["i1", "i2"]))
    lake.replace(SEQUENCE_FEATURES, FIRST, sequences(FIRST, CORRECTED_AT, anna=["i1", "i3"], ben=["i7"]))
    honest = vectors(SECOND, SECOND.end + ON_TIME, FIRST.start, anna=[0.6, 0.8])
    lake.replace(LONG_TERM_INTEREST, SECOND, honest)
    lake.replace(LONG_TERM_INTEREST, FIRST, vectors(FIRST, CORRECTED_AT, CORRECTED_AT, ben=[1.0, 0.0]))
    return settings.home


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings.load(home=home)


def rows(*pairs: tuple[str, datetime], **more) -> pl.DataFrame:
    frame = pl.DataFrame(list(pairs), {"user_id": pl.String, "event_timestamp": UTC_TIME}, orient="row")
    return frame.with_columns(**more)


def made(settings: Settings, asked, **options):
    from pipeline.serving.training_set import training_set

    return training_set(asked, "training_v1", settings, known_at=KNOWN_AT, **options)


def test_a_row_gets_what_was_true_at_its_time(settings):
    asked = rows(
        ("anna", FIRST.start),
        ("anna", FIRST.as_of),
        ("anna", FIRST.as_of - timedelta(microseconds=1)),
        ("anna", SECOND.end),
    )
    answer = made(settings, asked).rows
    assert answer["item_ids"].to_list() == [None, ["i1", "i3"], None, ["i1", "i2"]]
    assert answer["vector"].to_list()[3] == pytest.approx([0.6, 0.8])
    assert answer.schema["vector"] == pl.List(pl.Float32())
    assert answer.schema["event_times"] == pl.List(UTC_TIME)


def test_as_served_a_correction_is_seen_from_the_moment_it_was_written(settings):
    moments = (FIRST.end + ON_TIME - timedelta(seconds=1), FIRST.end + ON_TIME, CORRECTED_AT)
    asked = rows(*(("ben", moment) for moment in moments), ("anna", FIRST.end + ON_TIME))
    assert made(settings, asked, as_served=True, allow_reencoded=True).rows["item_ids"].to_list() == [
        None,
        ["i7"],
        ["i7"],
        ["i1"],
    ]
    assert made(settings, rows(("anna", FIRST.end + ON_TIME))).rows["item_ids"].to_list() == [["i1", "i3"]]


def test_every_row_comes_back_once_in_its_place_with_its_own_columns(settings):
    pairs = [("anna", SECOND.end), ("nobody", SECOND.end), ("anna", SECOND.end), ("anna", FIRST.start)] * 3
    asked = rows(*pairs, label=pl.int_range(pl.len()), empty=pl.lit(None, pl.String))
    answer = made(settings, asked)
    assert answer.rows.select(asked.columns).equals(asked)
    assert answer.manifest.rows == 12
    assert answer.manifest.without_features == {
        "sequence_features": 6,
        INTEREST_WINDOWS.name: 12,
        "long_term_interest": 6,
    }


def test_many_rows_are_joined_in_parts_to_the_same_set(settings, monkeypatch):
    from pipeline.stores import point_in_time

    asked = rows(*((user, SECOND.start + timedelta(hours=h)) for user in ("anna", "nobody") for h in range(5)))
    whole = made(settings, asked).rows
    monkeypatch.setattr(point_in_time, "ROWS_AT_ONCE", 1)
    assert made(settings, asked).rows.equals(whole)


def test_a_vector_that_knows_later_data_is_refused_unless_it_is_accepted(settings):
    asked = rows(("ben", SECOND.start), ("anna", SECOND.end))
    with pytest.raises(UserMistake, match="1 of 2 rows would carry a vector"):
        made(settings, asked)
    accepted = made(settings, asked, allow_reencoded=True)
    assert (accepted.manifest.reencoded, accepted.manifest.allow_reencoded) == (1, True)
    assert made(settings, rows(("ben", CORRECTED_AT))).manifest.reencoded == 0


def test_the_same_set_can_be_had_again_after_the_tables_moved_on(settings, tmp_path):
    from pipeline.serving.training_set import repeat_training_set, training_set

    own = Settings.load(home=shutil.copytree(settings.home, tmp_path / "home"))
    from pipeline.stores.feature_store import apply_definitions

    apply_definitions(own)
    lake, asked = Lake(own.lake_url), rows(("anna", SECOND.end), ("ben", FIRST.start))
    first = made(own, asked)
    assert first.manifest.versions == {"sequence_features": 2, "interest_windows": None, "long_term_interest": 1}
    lake.replace(SEQUENCE_FEATURES, SECOND, sequences(SECOND, KNOWN_AT, anna=["i9"]))
    moved_on = made(own, asked)
    assert moved_on.rows["item_ids"][0].to_list() == ["i9"]
    again, differences = repeat_training_set(first.manifest, asked, own, KNOWN_AT)
    assert differences == []
    assert again.rows.equals(first.rows)
    assert again.manifest.content_hash == first.manifest.content_hash != moved_on.manifest.content_hash

    with pytest.raises(UserMistake, match="not the rows"):
        repeat_training_set(first.manifest, asked.head(1), own, KNOWN_AT)
    changed = first.manifest.model_copy(update={"content_hash": "0" * 64, "features": first.manifest.features[1:]})
    _, differences = repeat_training_set(changed, asked, own, KNOWN_AT)
    assert "training_v1 has changed: added ['sequence_features:item_ids']" in differences[0]
    assert "the content is" in differences[1]

    lake.replace(SEQUENCE_FEATURES, FIRST, sequences(FIRST, KNOWN_AT, anna=["i9"]))
    table = DeltaTable(lake.path(SEQUENCE_FEATURES))
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    with pytest.raises(NotFound, match="sequence_features version 2"):
        training_set(asked, "training_v1", own, known_at=KNOWN_AT, versions=first.manifest.versions)


@pytest.mark.parametrize(
    ("asked", "fact"),
    [
        (rows(("a", KNOWN_AT)).drop("user_id"), "no column user_id"),
        (rows(("a", KNOWN_AT), item_ids=pl.lit(1)), "features named item_ids"),
        (rows(("a", KNOWN_AT), event_timestamp=pl.lit("soon")), "no time"),
        (rows(("a", KNOWN_AT), event_timestamp=pl.col("event_timestamp").dt.date()), "A day alone"),
        (rows(("a", KNOWN_AT), user_id=pl.lit(None, pl.String)), "user_id in 1"),
    ],
)
def test_rows_that_name_no_user_or_no_moment_are_refused(settings, asked, fact):
    with pytest.raises(UserMistake, match=fact):
        made(settings, asked)


def test_times_as_text_without_a_zone_and_from_pandas_are_the_same_moments(settings):
    asked = rows(("anna", SECOND.end))
    expected = made(settings, asked).rows
    naive = asked.with_columns(pl.col("event_timestamp").dt.replace_time_zone(None))
    text = asked.with_columns(event_timestamp=pl.lit("2026-03-03T01:00:00+01:00"))
    for other in (naive, text, asked.to_pandas()):
        assert made(settings, other).rows.equals(expected)


def test_the_hash_names_the_content_and_nothing_else():
    frame = pl.DataFrame({"a": ["x", None], "b": [[1.5, 2.0], []]})
    assert content_hash(frame) == content_hash(pl.concat([frame.head(1), frame.tail(1)]))
    for other in (
        frame.reverse(),
        frame.rename({"a": "c"}),
        frame.with_columns(a=pl.Series(["x", ""])),
        frame.with_columns(b=pl.Series([[1.5], [2.0]])),
        frame.with_columns(b=pl.Series([[1.5, 2.0], None])),
        frame.cast({"b": pl.List(pl.Float32)}),
    ):
        assert content_hash(other) != content_hash(frame)


def test_the_command_writes_the_set_its_manifest_and_an_mlflow_dataset(settings, tmp_path):
    from pipeline.cli.app import app
    from pipeline.stores.registry import Registry

    def command(*arguments: str):
        return CliRunner().invoke(app, ["--home", str(settings.home), "training-set", *arguments])

    entities, out = tmp_path / "labels.csv", tmp_path / "set.parquet"
    entities.write_text("user_id,event_timestamp,label\nanna,2026-03-03T00:00:00Z,1\nnobody,2026-03-03T00:00:00Z,0\n")
    shown = command("--entities", str(entities), "--out", str(out), "--json")
    assert shown.exit_code == 0, shown.output
    manifest = json.loads(shown.stdout)
    assert pl.read_parquet(out)["item_ids"].to_list() == [["i1", "i2"], None]
    assert json.loads((tmp_path / "set.parquet.json").read_text())["content_hash"] == manifest["content_hash"]
    again = command("--repeat", str(tmp_path / "set.parquet.json"), "--out", str(tmp_path / "again.parquet"))
    assert again.exit_code == 0, again.output
    assert "the same as before" in again.stdout
    client = Registry(settings).mlflow.client
    runs = client.search_runs([client.get_experiment_by_name("training_sets").experiment_id])
    assert [run.inputs.dataset_inputs[0].dataset.digest for run in runs] == [manifest["content_hash"][:32]]

    entities.write_text(entities.read_text().replace("anna", "ben"))
    other = command("--repeat", str(tmp_path / "set.parquet.json"), "--out", str(tmp_path / "again.parquet"))
    assert (other.exit_code, other.stderr.count("\n")) == (2, 1)
    refused = command("--entities", str(entities), "--out", str(tmp_path / "set.csv"))
    assert refused.exit_code == 2
