"""The vectors of pictures and sound that an items file brings, whatever kind of file it is."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from pipeline.contracts import ITEM_VECTORS
from pipeline.errors import BadMapping
from pipeline.events.catalogue import merged_items
from pipeline.events.item_vectors import vectors_from_file
from pipeline.events.mapping import ItemsFile
from pipeline.events.sources import read_table

MONDAY, TUESDAY = datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC)
MAPPING = ItemsFile.model_validate({
    "columns": {"item_id": "id", "title": "t", "vectors": {"image": "look", "audio": "sound"}}
})
SEEN = pl.DataFrame({"item_id": ["a"], "first_event": [MONDAY]})
ROWS = {
    "id": ["b", "a", "c"], "t": ["B", "A", "C"], "look": [[1.0, 0.5], [2.0, -1e-3], None], "sound": [None, [3.0], []]
}


def write(kind: str, folder: Path, rows: dict) -> Path:
    place, frame = folder / f"items.{kind}", pl.DataFrame(rows)
    if kind == "parquet":
        frame.write_parquet(place)
    elif kind == "jsonl":
        frame.write_ndjson(place)
    else:
        numbers = [pl.col(name).cast(pl.List(pl.String)).list.join(" ") for name in ("look", "sound")]
        frame.with_columns(numbers).write_csv(place)
    return place


def read(place: Path) -> pl.DataFrame:
    return vectors_from_file(read_table(place, MAPPING), MAPPING, place.name, SEEN, TUESDAY)


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
def test_a_column_for_each_modality_is_read_and_what_an_item_lacks_is_no_row(tmp_path, kind):
    found = read(write(kind, tmp_path, ROWS))
    assert found.schema == ITEM_VECTORS.schema
    assert [row[:2] + row[3:] for row in found.iter_rows()] == [
        ("a", "audio", MONDAY), ("a", "image", MONDAY), ("b", "image", TUESDAY)
    ]
    assert found["vector"].to_list()[0] == [3.0] and found["vector"].to_list()[2] == [1.0, 0.5]
    assert found["vector"][1].to_list() == pytest.approx([2.0, -1e-3])


@pytest.mark.parametrize(("look", "message"), [
    ([[1.0, None], [2.0, 1.0], None], r"column 'look': the vector of item 'b' is not a list of numbers; .*1 of 2"),
    ([[1.0, float("nan")], [2.0, 1.0], None], "item 'b' is not a list of numbers"),
    ([["x", "y"], ["1", "2"], None], "item 'b' is not a list of numbers"),
    ([[1.0, 0.0], [2.0], None], "item 'b' has 2 numbers and item 'a' 1"),
], ids=["a hole", "no number", "words", "two widths"])
def test_what_is_no_vector_is_refused_with_its_item(tmp_path, look, message):
    with pytest.raises(BadMapping, match=message):
        read(write("parquet", tmp_path, ROWS | {"look": look}))


def test_a_column_that_is_not_there_and_a_modality_that_nobody_knows_are_named(tmp_path):
    place = write("parquet", tmp_path, {name: values for name, values in ROWS.items() if name != "look"})
    with pytest.raises(BadMapping, match="no column 'look'"):
        read(place)
    with pytest.raises(ValueError, match="'audio', 'image' or 'video'"):
        ItemsFile.model_validate({"columns": {"item_id": "id", "title": "t", "vectors": {"smell": "s"}}})


def test_a_vector_that_repeats_adds_no_row_and_a_new_one_holds_from_its_own_time(tmp_path):
    first = read(write("parquet", tmp_path, ROWS))
    assert merged_items(first, first, ITEM_VECTORS).equals(first)
    later = first.filter(pl.col("item_id") == "a").with_columns(pl.lit(TUESDAY).alias("valid_from"))
    assert merged_items(first, later, ITEM_VECTORS).equals(first)
    other = later.with_columns(pl.col("vector").list.eval(pl.element() + 1.0))
    assert merged_items(first, other, ITEM_VECTORS).height == first.height + 2
