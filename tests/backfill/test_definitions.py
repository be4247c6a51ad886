"""What changes a definition, and what doesn't."""

import polars as pl
import pytest

from pipeline.backfill.content import content_of
from pipeline.backfill.definitions import DEFINITIONS, code_hash, definition_of, hash_of_source
from pipeline.contracts import INTEREST_WINDOWS, ITEMS, SEQUENCE_FEATURES
from pipeline.settings import Features, Logs, Settings

SOURCE = 'def f(x):\n    """Adds."""\n    return x + 1\n'


@pytest.mark.parametrize("same", ["# why\ndef f(x):\n\n    return (x + 1)\n", SOURCE.replace("Adds", "Really adds")])
def test_comments_formatting_and_documentation_are_no_change(same: str):
    assert hash_of_source(same) == hash_of_source(SOURCE)


def test_another_number_is_a_change():
    assert hash_of_source(SOURCE.replace("1", "2")) != hash_of_source(SOURCE)


def test_what_a_module_imports_of_the_logic_belongs_to_it(tmp_path):
    for name, source in {"a": "from pipeline.features.b import f\n", "b": SOURCE, "c": SOURCE}.items():
        (tmp_path / "features").mkdir(exist_ok=True)
        (tmp_path / "features" / f"{name}.py").write_text(source)
    before = code_hash(("features/a.py",), tmp_path)
    (tmp_path / "features" / "c.py").write_text("x = 1\n")
    code_hash.cache_clear()
    assert code_hash(("features/a.py",), tmp_path) == before
    (tmp_path / "features" / "b.py").write_text(SOURCE.replace("1", "2"))
    code_hash.cache_clear()
    assert code_hash(("features/a.py",), tmp_path) != before


def test_a_setting_changes_the_tables_for_which_it_matters():
    plain, short = Settings(), Settings(features=Features(sequence_length=7))
    weighted = Settings(logs=Logs(event_weights={"view": 2.0}))
    assert len({definition_of(table, plain) for table in DEFINITIONS}) == len(DEFINITIONS)
    assert definition_of(SEQUENCE_FEATURES, short) != definition_of(SEQUENCE_FEATURES, plain)
    assert definition_of(INTEREST_WINDOWS, short) == definition_of(INTEREST_WINDOWS, plain)
    assert definition_of(INTEREST_WINDOWS, weighted) != definition_of(INTEREST_WINDOWS, plain)


def test_the_content_of_rows_does_not_depend_on_their_order():
    rows = pl.DataFrame(
        {"item_id": ["a", "b"], "title": ["x", "y"], "categories": [["c"], []], "valid_from": [None, None]},
    ).cast(ITEMS.schema)
    other = rows.with_columns(pl.Series("categories", [["d"], []]))
    assert content_of(ITEMS, rows) == content_of(ITEMS, rows.reverse())
    assert content_of(ITEMS, rows) != content_of(ITEMS, other)
    assert content_of(ITEMS, rows) != content_of(ITEMS, rows.head(1))
