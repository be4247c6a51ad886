"""Set-up: what must be there before the first step runs. Safe to repeat, also from several processes at once."""

from __future__ import annotations

from pipeline.settings import Settings
from pipeline.stores.ledger import Ledger
from pipeline.stores.registry import Registry


def prepare_stores(settings: Settings) -> None:
    """Bring the ledger to its newest schema, make MLflow's experiments, register the feature definitions."""
    from pipeline.stores.feature_store import apply_definitions

    settings.place("").mkdir(parents=True, exist_ok=True)
    Ledger(settings.ledger_url).migrate()
    Registry(settings).prepare()
    apply_definitions(settings)
