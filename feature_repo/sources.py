"""Where features are read from: the lake's tables, at the place that the settings name."""

from pipeline.contracts import INTEREST_WINDOWS, ITEM_TEXT, LONG_TERM_INTEREST, RECOMMENDATIONS, SEQUENCE_FEATURES
from pipeline.stores.declarations import delta_source

sequence_features_source = delta_source(SEQUENCE_FEATURES)
interest_windows_source = delta_source(INTEREST_WINDOWS)
long_term_interest_source = delta_source(LONG_TERM_INTEREST)
item_text_source = delta_source(ITEM_TEXT)
recommendations_source = delta_source(RECOMMENDATIONS)
