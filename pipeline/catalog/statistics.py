"""How the values of a feature look: a few numbers, the most frequent values, examples."""

from __future__ import annotations

import math
from datetime import datetime

import polars as pl

from pipeline.catalog.facts import Frequent, Numbers, Statistics

BINS = 24
FREQUENT = 8
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
VECTOR = "vector"
"""What the contracts call a column whose rows are points of one embedding space."""
SHOWN = 4
"""Entries of a list that an example shows."""
LONGEST = 60


def measure(values: pl.Series) -> Statistics:
    """The statistics of a feature's column. NaN and infinities are left out of the numbers."""
    present = values.drop_nulls()
    if isinstance(values.dtype, pl.List):
        elements = present.explode(empty_as_null=False)
        lengths = present.list.len()
        return Statistics(
            rows=len(values),
            nulls=values.null_count(),
            empty=int((lengths == 0).sum()),
            lengths=numbers_of(lengths),
            norms=_norms(present) if values.name == VECTOR else None,
            **_of_scalars(elements.drop_nulls()),
        )
    return Statistics(rows=len(values), nulls=values.null_count(), **_of_scalars(present))


def numbers_of(values: pl.Series) -> Numbers | None:
    """None where there is no number."""
    values = values.cast(pl.Float64)
    values = values.filter(values.is_finite())
    if values.is_empty():
        return None
    least, greatest = float(values.min()), float(values.max())
    width = (greatest - least) or 1.0
    places = ((values - least) / width * BINS).floor().cast(pl.Int64).clip(0, BINS - 1)
    counted = dict(places.value_counts(name="rows").iter_rows())
    return Numbers(
        count=len(values),
        least=least,
        mean=float(values.mean()),
        greatest=greatest,
        quantiles={f"p{round(100 * q):02d}": float(values.quantile(q, "linear")) for q in QUANTILES},
        bins=tuple(counted.get(place, 0) for place in range(BINS)) if greatest > least else (len(values),),
    )


def shown(value: object) -> str:
    """A value for people, short."""
    if value is None:
        return "missing"
    if isinstance(value, list):
        more = f", … {len(value) - SHOWN} more" if len(value) > SHOWN else ""
        return f"[{', '.join(shown(part) for part in value[:SHOWN])}{more}]"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else "no number"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    text = str(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _of_scalars(values: pl.Series) -> dict[str, object]:
    if values.dtype.is_numeric():
        return {"numbers": numbers_of(values)}
    if values.dtype.is_temporal():
        return {"first": values.min(), "last": values.max()}
    counted = values.cast(pl.String).value_counts(name="rows").sort(["rows", values.name], descending=[True, False])
    frequent = tuple(Frequent(value=shown(value), count=rows) for value, rows in counted.head(FREQUENT).iter_rows())
    return {"distinct": counted.height, "frequent": frequent}


def _norms(vectors: pl.Series) -> Numbers | None:
    squares = vectors.list.eval(pl.element().cast(pl.Float64) ** 2).list.sum()
    return numbers_of(squares.sqrt())
