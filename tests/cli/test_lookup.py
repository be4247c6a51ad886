"""`interest lookup` shows every kind of answer that a view can give."""

from datetime import UTC, datetime, timedelta

import polars as pl

from pipeline.contracts import LONG_TERM_INTEREST, RECOMMENDATIONS


def test_a_view_of_another_space_is_shown_as_withheld(settings, ledger, interest):
    from feast import FeatureService

    from pipeline.stores.feature_store import apply_definitions, open_feature_store, push_online

    apply_definitions(settings)
    store = open_feature_store(settings)
    both = [store.get_feature_view(table.name) for table in (LONG_TERM_INTEREST, RECOMMENDATIONS)]
    store.apply([FeatureService(name="both", features=both)])
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    vector = ("anna", [0.6, 0.8], "older", 1, moment, moment, moment)
    listed = ("anna", ["i1"], [0.5], "newer", 2, moment, moment + timedelta(days=1), moment)
    for table, row in ((LONG_TERM_INTEREST, vector), (RECOMMENDATIONS, listed)):
        push_online(settings, table.name, pl.DataFrame([row], table.schema, orient="row"))
    said = interest("lookup", "anna", "--service", "both")
    assert said.code == 0, said.err
    assert "long_term_interest  withheld" in said.out and "space newer" in " ".join(said.out.split())
    assert "0.6" not in said.out and "item_ids: i1" in said.out
