"""
The libraries of the tasks, loaded once.

The embedded executor forks each task from the scheduler. What the scheduler has loaded, a task finds loaded, in
memory that both share: a task of ten users then costs a second instead of ten. Nothing is used here, only loaded: a
library that has started its threads must not be forked.
"""

from __future__ import annotations

import importlib

from pipeline.settings import keep_libraries_quiet

LOADED = (
    "pipeline.stores.quick_feast",
    "pipeline.stores.feature_store",
    "great_expectations",
    "mlflow",
    "pipeline.steps.behavior_logs",
    "pipeline.steps.sequence_features",
    "pipeline.steps.item_text",
    "pipeline.steps.interest_evolution",
    "pipeline.steps.collaborative_filter",
    "pipeline.steps.long_term_interest",
    "pipeline.steps.recommendations",
)


def load_libraries() -> None:
    """Import what the tasks import."""
    keep_libraries_quiet()
    for name in LOADED:
        importlib.import_module(name)
