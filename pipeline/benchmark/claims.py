"""
Two claims that are tried in every benchmark: that long-term interest changes lists for the better, and that it lasts.

Each is a table of the same model, asked with what another user did, with nothing, with what was known 90 days ago, or
with a state some days old. They are made under a split by time, with the models of the first seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import numpy as np

from pipeline.benchmark.contenders import Contenders
from pipeline.benchmark.questions import TIME, BenchmarkSplit
from pipeline.evaluation.comparison import Comparison
from pipeline.evaluation.markdown import change_table
from pipeline.evaluation.placebo import EARLIER_DAYS, hybrid_placebo, placebo_table, staleness_table
from pipeline.models.translation import encoder_in

SHOWN = ("ndcg@10", "recall@10", "recall@50")


def claim_tables(
    contenders: Contenders, split: BenchmarkSplit, text: np.ndarray | None, include_seen: bool, samples: int
) -> dict[str, list[dict]]:
    """`{"filter_placebo": rows, "hybrid_placebo": rows, "staleness": rows}` of the models that took part; rows as in
    `Comparison.table`."""
    if split.kind != TIME or contenders.interest is None:
        return {}
    asked = (split.known, split.test, split.catalogue, split.test_start)
    options = {"include_seen": include_seen, "samples": samples, "item_vectors": text}
    encode = encoder_in(contenders.interest, split.catalogue)
    found: dict[str, Comparison] = {}
    if "collaborative_filter" in contenders.fitted:
        earlier = encode(split.known.before(split.test_start - timedelta(days=EARLIER_DAYS)))
        found["filter_placebo"] = placebo_table(
            contenders.filter, *asked, encode(split.known), earlier={f"{EARLIER_DAYS}_days_ago": earlier}, **options
        )
    if "hybrid" in contenders.fitted:
        hybrid = getattr(contenders.fitted["hybrid"], "hybrid", contenders.fitted["hybrid"])
        found["hybrid_placebo"] = hybrid_placebo(hybrid, contenders.filter, encode, *asked, **options)
    if "interest_evolution" in contenders.fitted:
        found["staleness"] = staleness_table(contenders.interest, *asked, **options)
    return {name: comparison.table(SHOWN) for name, comparison in found.items()}


def claim_lines(found: Mapping[str, list[dict]]) -> list[str]:
    """The tables in Markdown."""
    titles = {
        name: f"The {model}, told of another's interest, of none, and of {EARLIER_DAYS} days ago; changes to none:"
        for name, model in (("filter_placebo", "filter"), ("hybrid_placebo", "hybrid"))
    } | {
        "staleness": "The interest model, asked with a state some days old; changes to today's:",
    }
    return [line for name, rows in found.items() for line in ("", titles[name], "", *change_table(rows, SHOWN))]
