"""Where features are read from: the lake's tables, at the place that the settings name."""

from pipeline.contracts import (
    INTEREST_WINDOWS,
    ITEM_TEXT,
    LONG_TERM_INTEREST,
    LONG_TERM_INTEREST_MAPPED,
    LONG_TERM_INTEREST_REENCODED,
    RECOMMENDATIONS,
    SEQUENCE_FEATURES,
)
from pipeline.stores.declarations import delta_source

sequence_features_source = delta_source(SEQUENCE_FEATURES)
interest_windows_source = delta_source(INTEREST_WINDOWS)
long_term_interest_source = delta_source(LONG_TERM_INTEREST)
long_term_interest_reencoded_source = delta_source(LONG_TERM_INTEREST_REENCODED)
long_term_interest_mapped_source = delta_source(LONG_TERM_INTEREST_MAPPED)
item_text_source = delta_source(ITEM_TEXT)
recommendations_source = delta_source(RECOMMENDATIONS)
