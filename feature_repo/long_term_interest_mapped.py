"""The newest vectors in the space of the release before, for consumers who have not followed yet."""

from datetime import timedelta

from entities import user
from sources import long_term_interest_mapped_source

from pipeline.contracts import LONG_TERM_INTEREST_MAPPED
from pipeline.stores.declarations import view_of

long_term_interest_mapped = view_of(
    LONG_TERM_INTEREST_MAPPED,
    entity=user,
    source=long_term_interest_mapped_source,
    written_by="long_term_interest",
    ttl=timedelta(days=28),
    says={"mapped": "space_id is the older space, mapped_from the model's own"},
    description="The vectors of long_term_interest, rotated into the space of the release before. Written while "
    "`spaces.still_read` names that space; how well the map fits stands with the model's version.",
)
