"""The feature catalogue on real stores, and in a real browser."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonschema
import polars as pl
import pytest

from pipeline.catalog.facts import Catalog
from pipeline.contracts import INTEREST_WINDOWS, LONG_TERM_INTEREST
from pipeline.steps.catalog import build_catalog, collect_catalog

USER = "customer-4711-jane"
NEWEST = datetime(2026, 3, 1, 23, 59, 59, 999999, tzinfo=UTC)
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def described(filled, settings):
    """The written home with its definitions applied and one user served."""
    from pipeline.stores.feature_store import apply_definitions, push_online

    apply_definitions(settings)
    day = filled.days(INTEREST_WINDOWS)[-1]
    push_online(settings, "interest_windows", filled.read(INTEREST_WINDOWS, day))
    clocks = {"event_timestamp": NEWEST, "created": NEWEST, "model_cutoff": NEWEST - timedelta(days=7)}
    row = {"user_id": USER, "vector": [0.6, 0.8], "space_id": "s1", "model_version": 3, **clocks}
    filled.replace(LONG_TERM_INTEREST, day, pl.DataFrame([row], schema=LONG_TERM_INTEREST.schema))
    return filled


def test_the_catalogue_says_of_every_feature_what_a_consumer_must_know(described, settings):
    catalog = collect_catalog(settings, NEWEST + timedelta(hours=2))

    views = {view.name: view for view in catalog.views}
    assert {"sequence_features", "interest_windows", "long_term_interest", "item_text", "recommendations"} <= set(views)
    windows = views["interest_windows"]
    assert (windows.owner, windows.key, windows.entities) == ("ml-platform@example.com", "user_id", 1)
    assert (windows.lineage.dag, windows.lineage.table_version) == ("sequence_features", 1)
    features = {feature.name: feature for feature in windows.features}
    days = features["days_since_previous"]
    assert (days.type, days.missing) == ("Float64", "this is the first active day")
    assert (days.statistics.rows, days.statistics.nulls) == (1, 1)
    assert {"ranking_v1", "support_profile_v1", "training_v1"} <= set(days.consumers)
    assert "support_profile_v1" not in features["counts_7d"].consumers
    assert "--service training_v1 " in days.reading.training_set
    assert features["counts_7d"].statistics.numbers.greatest == 9.0
    vectors = views["long_term_interest"]
    assert (vectors.lineage.model_versions, vectors.lineage.spaces) == ((3,), ("s1",))
    assert vectors.features[0].statistics.norms.mean == pytest.approx(1.0)
    assert all(feature.description for view in catalog.views for feature in view.features)


def test_a_view_older_than_its_promise_is_called_stale(described, settings):
    kept = collect_catalog(settings, NEWEST + timedelta(hours=26))
    broken = collect_catalog(settings, NEWEST + timedelta(hours=26, seconds=1))

    states = {view.name: view.freshness.state for view in kept.views}
    assert (states["interest_windows"], states["item_text"]) == ("fresh", "absent")
    assert {view.name: view.freshness.state for view in broken.views}["interest_windows"] == "stale"
    assert broken.stale == ("interest_windows", "long_term_interest")
    windows = next(view for view in broken.views if view.name == "interest_windows").freshness
    assert (windows.is_served, windows.newest, windows.age_seconds) == (True, NEWEST, 26 * 3600 + 1)
    assert not next(view for view in broken.views if view.name == "long_term_interest").freshness.is_served


def test_the_json_file_fits_its_schema_and_comes_back_whole(described, settings, tmp_path):
    now = NEWEST + timedelta(days=3)
    built = build_catalog(settings, now, tmp_path / "site")
    folder = Path(built.folder)

    found = json.loads((folder / "catalog.json").read_text())
    jsonschema.validate(found, json.loads((folder / "catalog.schema.json").read_text()))
    assert Catalog.model_validate(found) == collect_catalog(settings, now)
    assert USER not in (folder / "catalog.json").read_text()
    first = {file.name: file.read_bytes() for file in folder.iterdir()}
    build_catalog(settings, now, tmp_path / "site")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == first


def test_the_pages_open_in_a_browser_and_show_neither_a_raw_id_nor_a_script(
    described, settings, interest, in_chromium, tmp_path
):
    answer = interest("catalog", "build", "--json")
    assert answer.code == 0, answer.err
    assert "interest_windows" in answer.json["stale"]
    folder = settings.place("catalog")

    assert {file.name for file in folder.glob("*.html")} == set(answer.json["pages"])
    for page in answer.json["pages"]:
        text = (folder / page).read_text()
        assert "<script" not in text.lower() and USER not in text and "\N{REPLACEMENT CHARACTER}" not in text
        for link in re.findall(r'href="([^"#]+)', text):
            assert (folder / link).is_file(), f"{page} links to {link}"
        # An address in an example to paste is text; nothing may be loaded.
        assert not re.search(r'(src|href)="(https?:)?//|url\(|@import', text)
    index = in_chromium(folder / "index.html", tmp_path / "profile", "--dump-dom")
    assert ">Feature catalogue</h1>" in index and ">stale</span>" in index
    picture = tmp_path / "page.png"
    in_chromium(folder / "interest_windows.html", tmp_path / "profile", f"--screenshot={picture}")
    seen = in_chromium(folder / "interest_windows.html", tmp_path / "profile", "--dump-dom")
    assert picture.stat().st_size > 30_000, "the screenshot is blank"
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in seen and SCRIPT not in seen
    assert seen.count("<svg") >= 3
    assert "interest training-set --entities labels.parquet --service training_v1" in seen


def test_without_definitions_there_is_nothing_to_describe(interest):
    answer = interest("catalog", "build")

    assert (answer.code, len(answer.err.splitlines())) == (2, 1)
    assert "interest doctor --repair" in answer.err


def test_a_file_is_no_place_for_the_catalogue(described, interest, tmp_path):
    (tmp_path / "taken").write_text("mine")

    answer = interest("catalog", "build", "--out", str(tmp_path / "taken"))

    assert answer.code == 2 and "--out" in answer.err
    assert (tmp_path / "taken").read_text() == "mine"
