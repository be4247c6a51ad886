"""
What was popular when a user is asked. Under leave-one-out every user has a moment of their own, and a model that knows
what is popular must be told it as of then: at the end of the log it would know what came after most targets.

Weights do not change by it: as in the papers, they are learned from all users' training items, whenever these were.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from pipeline.benchmark.contenders import Contenders
from pipeline.benchmark.questions import LEAVE_ONE_OUT, BenchmarkSplit

BY_POPULARITY = ("popularity", "popularity_30d", "content")


def teller(contenders: Contenders, split: BenchmarkSplit) -> Callable[[str, datetime], None] | None:
    """For `compare`; None where all users are asked at one moment, at which every model was fitted."""
    if split.kind != LEAVE_ONE_OUT:
        return None

    def tell(name: str, moment: datetime) -> None:
        before = split.known.before(moment)
        model = contenders.fitted[name]
        if name == "interest_evolution":
            contenders.interest.observe(before, moment)
        elif name.startswith("collaborative_filter"):
            contenders.filter.observe(before, moment)
        elif name == "hybrid":
            model.observe_popularity(before, moment)
        elif name in BY_POPULARITY:
            model.fit(before, split.catalogue, moment)

    return tell
