"""What the user did last."""

from entities import user
from sources import sequence_features_source

from pipeline.contracts import SEQUENCE_FEATURES
from pipeline.stores.declarations import view_of

sequence_features = view_of(
    SEQUENCE_FEATURES,
    entity=user,
    source=sequence_features_source,
    written_by="sequence_features",
    description="The user's last events as parallel arrays, oldest first, as of the user's last active day.",
)
