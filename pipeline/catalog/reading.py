"""How a feature is read, as text to paste: from Python, over HTTP, and into a training set."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pipeline.catalog.facts import Reading

REENCODED = "reencoded"


@dataclass(frozen=True)
class Server:
    """Where the feature server answers, and whether it asks who is there."""

    url: str
    checks_callers: bool


def reading_of(view: str, feature: str, key: str, services: tuple[str, ...], server: Server) -> Reading:
    """Through a service where one holds the feature, else by the feature's own name."""
    reference = f"{view}:{feature}"
    online = next((service for service in services if not service.startswith("training")), None)
    if key == "user_id" and online:
        python = (
            "from pipeline.partitions import utc_now\n"
            "from pipeline.serving.lookup import look_up\n"
            "from pipeline.settings import Settings\n\n"
            f'answer = look_up(Settings.load(), "ID", "{online}", utc_now())\n'
            f'view = answer.views["{view}"]  # status, event_time, age_seconds\n'
            f'view.values.get("{feature}")'
        )
    else:
        python = (
            "from pipeline.settings import Settings\n"
            "from pipeline.stores.feature_store import open_feature_store\n\n"
            "store = open_feature_store(Settings.load())\n"
            f'store.get_online_features(["{reference}"], [{{"{key}": "ID"}}]).to_dict()'
        )
    asked = json.dumps({"features": [reference], "entities": {key: ["ID"]}})
    token = '  -H "Authorization: Bearer $TOKEN" \\\n' if server.checks_callers else ""
    curl = (
        f"curl -s {server.url}/get-online-features \\\n  -H 'Content-Type: application/json' \\\n{token}  -d '{asked}'"
    )
    # A set of re-encoded vectors knows later data: it is named last, and with the consent that it asks for.
    joining = sorted((s for s in services if s.startswith("training")), key=lambda s: (REENCODED in s, s))
    joined = ""
    if service := next(iter(joining), online):
        consent = " --allow-reencoded" if REENCODED in service else ""
        joined = f"interest training-set --entities labels.parquet --service {service} --out set.parquet{consent}"
    return Reading(python=python, curl=curl, training_set=joined)
