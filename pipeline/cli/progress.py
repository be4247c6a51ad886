"""How a range of days is shown while the scheduler works on it: bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.stack.restate import Progress

EVERY_SECONDS = 15.0
"""Without a terminal, a line is printed when a run has ended, at most this often."""


@contextmanager
def shown(console: Console) -> Iterator[Callable[[Progress], None]]:
    """Gives the function to which the state of the range is told."""
    if console.is_terminal:
        with _bars(console) as show:
            yield show
    else:
        yield _lines(console)


@contextmanager
def _bars(console: Console) -> Iterator[Callable[[Progress], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    name, now = TextColumn("{task.description:<20}"), TextColumn("{task.fields[now]}")
    with Bars(name, BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn(), now, console=console) as bars:
        by_dag: dict[str, int] = {}

        def show(progress: Progress) -> None:
            for dag_id, (done, total, now) in _by_dag(progress).items():
                if dag_id not in by_dag:
                    by_dag[dag_id] = bars.add_task(dag_id, total=total, now="")
                bars.update(by_dag[dag_id], completed=done, total=total, now=now)

        yield show


def _lines(console: Console) -> Callable[[Progress], None]:
    began = time.monotonic()
    said = {"at": float("-inf"), "left": -1}

    def show(progress: Progress) -> None:
        due = time.monotonic() - said["at"] >= EVERY_SECONDS
        if progress.left == said["left"] or not (due or progress.left == 0):
            return
        said.update(at=time.monotonic(), left=progress.left)
        now = ", ".join(f"{work.dag_id} {work.partition}" for work in progress.running) or "nothing"
        failed = f", {len(progress.failed)} failed" if progress.failed else ""
        done = f"{len(progress.done)} of {len(progress.expected)} runs done"
        console.print(f"  {time.monotonic() - began:4.0f} s  {done}{failed}; now: {now}")

    return show


def _by_dag(progress: Progress) -> dict[str, tuple[int, int, str]]:
    """Dag → (runs done, runs expected, partitions in work or failed)."""
    found: dict[str, tuple[int, int, str]] = {}
    for dag_id in dict.fromkeys(work.dag_id for work in progress.expected):
        total = [work for work in progress.expected if work.dag_id == dag_id]
        done = sum(work.dag_id == dag_id for work in progress.done)
        active = [work.partition for work in progress.running if work.dag_id == dag_id]
        failed = [f"{work.partition} failed" for work in progress.failed if work.dag_id == dag_id]
        found[dag_id] = (done, len(total), ", ".join(failed + active))
    return found
