"""What each kind of consumer reads, as one name that does not change its meaning: a change is a new version."""

from feast import FeatureService
from interest_windows import interest_windows
from long_term_interest import long_term_interest
from long_term_interest_reencoded import long_term_interest_reencoded
from recommendations import recommendations
from sequence_features import sequence_features

OWNER = "ml-platform@example.com"

# Both views count events; a service names a feature once, so it takes the count of the interest windows.
# Names of columns, not a view: Feast takes every view that it finds in a module for a declaration.
LAST_EVENTS = ["item_ids", "event_types", "event_times"]

ranking_v1 = FeatureService(
    name="ranking_v1",
    features=[sequence_features[LAST_EVENTS], interest_windows, long_term_interest],
    description="For a ranker at request time: the last events, the interest windows and the long-term vector.",
    owner=OWNER,
    tags={"consumer": "online ranking", "freshness": "26h", "space": "space_id names the vector's space"},
)

support_profile_v1 = FeatureService(
    name="support_profile_v1",
    features=[
        interest_windows[
            [
                "categories",
                "counts_30d",
                "top_categories",
                "entropy",
                "num_events",
                "active_days",
                "days_since_previous",
            ]
        ],
        recommendations,
    ],
    description="For a person who helps a user: what the user is into, how active, and what is recommended.",
    owner=OWNER,
    tags={"consumer": "customer support", "freshness": "26h", "space": "space_id names the recommendations' space"},
)

training_v1 = FeatureService(
    name="training_v1",
    features=[sequence_features[LAST_EVENTS], interest_windows, long_term_interest],
    description="For a training set, joined point in time: what was known of the user at the time of each row.",
    owner=OWNER,
    tags={"consumer": "training", "freshness": "26h", "space": "space_id; a row's vector may differ in space"},
)

training_reencoded_v1 = FeatureService(
    name="training_reencoded_v1",
    features=[sequence_features[LAST_EVENTS], interest_windows, long_term_interest_reencoded],
    description="For a training set over days before the first model, with re-encoded vectors: they know later data, "
    "so the set is refused unless allow_reencoded is given.",
    owner=OWNER,
    tags={"consumer": "training", "reencoded": "yes", "space": "space_id; a row's vector may differ in space"},
)
