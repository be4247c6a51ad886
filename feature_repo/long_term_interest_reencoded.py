"""Re-encoded history: what users cared about, seen by a model that was trained on later data."""

from entities import user
from sources import long_term_interest_reencoded_source

from pipeline.contracts import LONG_TERM_INTEREST_REENCODED
from pipeline.stores.declarations import view_of

long_term_interest_reencoded = view_of(
    LONG_TERM_INTEREST_REENCODED,
    entity=user,
    source=long_term_interest_reencoded_source,
    written_by="long_term_interest",
    online=False,
    says={"reencoded": "yes", "knows": "data from after the day, up to model_cutoff", "served": "never"},
    description="Re-encoded: the vectors of days before the first model, from the oldest one, which was trained on "
    "data from after these days. It could not have been served, so it is joined to training sets only, and only "
    "where allow_reencoded says that this is known.",
)
