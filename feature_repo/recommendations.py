"""What to show the user next."""

from datetime import timedelta

from entities import user
from sources import recommendations_source

from pipeline.contracts import RECOMMENDATIONS
from pipeline.stores.declarations import view_of

recommendations = view_of(
    RECOMMENDATIONS,
    entity=user,
    source=recommendations_source,
    written_by="recommendations",
    ttl=timedelta(days=28),
    description="The best items for the user as of the end of a day, best first, from the hybrid score.",
)
