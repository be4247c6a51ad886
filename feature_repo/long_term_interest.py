"""What the user has cared about over months."""

from datetime import timedelta

from entities import user
from sources import long_term_interest_source

from pipeline.contracts import LONG_TERM_INTEREST
from pipeline.stores.declarations import view_of

long_term_interest = view_of(
    LONG_TERM_INTEREST,
    entity=user,
    source=long_term_interest_source,
    written_by="long_term_interest",
    ttl=timedelta(days=28),
    description="What the user has cared about over months, as one vector of one embedding space, from the newest "
    "model whose training data ended before the day.",
)
