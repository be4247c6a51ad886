"""How much each category has occupied the user lately."""

from entities import user
from sources import interest_windows_source

from pipeline.contracts import INTEREST_WINDOWS
from pipeline.stores.declarations import view_of

interest_windows = view_of(
    INTEREST_WINDOWS,
    entity=user,
    source=interest_windows_source,
    written_by="sequence_features",
    description="Decayed counts of the user's events by category, as of the user's last active day. To bring a count "
    "to a later moment, halve it once for every half-life between the event time and that moment.",
)
