"""Tables in Markdown, for model cards and benchmarks; a mean and a change are written in one way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table."""
    return [_line(head), "|---" * len(head) + "|", *map(_line, rows)]


def change_table(rows: Iterable[Mapping], metrics: Sequence[str]) -> list[str]:
    """The lines of a table with the mean and the change of each metric; rows as `Comparison.table` makes them."""
    head = ["model", *(text for name in metrics for text in (name, "change"))]
    return markdown_table(
        head,
        ([row["model"], *(cell(row[name]) for name in metrics for cell in (mean_cell, change_cell))] for row in rows),
    )


def mean_cell(found: Mapping[str, float | None], digits: int = 4) -> str:
    """`mean` with its interval, from `low` to `high`."""
    if found["mean"] is None:
        return "no value"
    return f"{found['mean']:.{digits}f} [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"


def change_cell(found: Mapping[str, float | None], name: str = "change") -> str:
    """A change as a share, with its interval from `{name}_low` to `{name}_high`; what cannot be said is `open`."""
    if found.get(name) is None:
        return "open"
    bounds = (found[f"{name}_low"], found[f"{name}_high"])
    low, high = ("open" if bound is None else f"{bound:+.0%}" for bound in bounds)
    return f"{found[name]:+.0%} [{low}, {high}]"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
