"""An item is described from its first event on, by its first title; more log never changes that."""

from datetime import UTC, datetime

import polars as pl

from pipeline.contracts import ITEMS
from pipeline.events.catalogue import items_from_events, items_from_file, merged_items
from pipeline.events.mapping import ItemsFile

MONDAY, TUESDAY = datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC)


def items(*rows: tuple) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=ITEMS.schema, orient="row")


def test_an_items_file_gives_titles_and_categories():
    mapping = ItemsFile.model_validate(
        {"columns": {"item_id": "id", "title": "t", "categories": "c"}, "no_category": ["none"]}
    )
    source = pl.DataFrame(
        {"id": ["1", "2", "1", None, "3"], "t": [" Toy\tStory ", None, "Again", "x", "C"],
         "c": ["A| B|", "none", "Z", "", None]}
    )
    seen = pl.DataFrame({"item_id": ["1"], "first_event": [MONDAY]})
    found = items_from_file(source, mapping, "items.csv", seen, TUESDAY)
    assert found.schema == ITEMS.schema
    assert found.rows() == [
        ("1", "Toy Story", ["A", "B"], MONDAY), ("2", "unknown", [], TUESDAY), ("3", "C", [], TUESDAY)
    ]


def test_a_title_in_the_events_is_the_first_that_is_not_blank():
    rows = pl.DataFrame(
        {"item_id": ["1", "1", "1", "2", "3"], "refuse_reason": [None, None, None, None, "mapping:fee"],
         "loaded_row": [0, 1, 2, 3, 4]}
    )
    moments = pl.Series([TUESDAY, MONDAY, MONDAY, MONDAY, MONDAY], dtype=pl.Datetime("us", "UTC"))
    titles = pl.Series(["LATER", "  ", "FIRST\x00", None, "POSTAGE"])
    found = items_from_events(rows, moments, titles)
    assert found.rows() == [("1", "FIRST", [], MONDAY), ("2", "unknown", [], MONDAY)]


def test_merging_is_idempotent_and_keeps_the_earliest():
    early, late = items(("1", "A", ["x"], MONDAY)), items(("1", "A", ["x"], TUESDAY))
    assert merged_items(early, late).equals(early)
    assert merged_items(late, early).equals(early)
    assert merged_items(early, early).equals(early)


def test_a_changed_description_holds_from_its_own_time_and_a_correction_replaces():
    first = items(("1", "A", [], MONDAY))
    assert merged_items(first, items(("1", "B", [], TUESDAY)))["title"].to_list() == ["A", "B"]
    assert merged_items(first, items(("1", "B", [], MONDAY)))["title"].to_list() == ["B"]
