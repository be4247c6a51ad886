"""`interest run`: the whole job, end to end, on the sample log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from pipeline.settings import Settings
    from pipeline.stack.timings import Timings

PRESET = "movielens-100k"
HISTORY_ENDS = "1998-04-12"
"""A Sunday. The first models are trained as of its end; the week after it goes through Airflow."""
FIRST, LAST = "1998-04-13", "1998-04-19"
RESTATED = "run/restated.json"


def run(ctx: typer.Context) -> None:
    """Take the sample log all the way: validate, build features, train, gate, register, push, look up.

    The history up to 1998-04-12 is loaded in one pass and the first models are trained on it; then Airflow runs the
    seven days after it, and one weekly training of each model. Exit code 0 only if all of it succeeded. A second run
    changes nothing. Takes some ten minutes on two cores; where the time went is written to timings.json.

    Example: interest run
    """
    from pipeline.cli.edge import console, settings_of
    from pipeline.cli.summary import print_summary
    from pipeline.stack.timings import Timings

    settings = settings_of(ctx)
    with Timings(settings) as timings:
        is_new = _bring_in_history(settings, timings)
        is_new = _train_first_models(settings, timings) or is_new
        _run_the_week(settings, timings, is_new)
        with timings.stage("report"):
            _write_report(settings)
        with timings.stage("catalogue"):
            _build_catalog(settings)
        with timings.stage("summary"):
            shortfalls = print_summary(settings)
    file = timings.write()
    console.print(f"\nTook {timings.total:.0f} s, {timings.peak_bytes / 1e9:.1f} GB at most; stage by stage: {file}")
    if shortfalls:
        for shortfall in shortfalls:
            typer.echo(f"error: {shortfall}", err=True)
        raise typer.Exit(1)


def _bring_in_history(settings: Settings, timings: Timings) -> bool:
    """Whether anything of it was new."""
    from pipeline.cli.backfill import show_history
    from pipeline.cli.edge import console
    from pipeline.events.mapping import load_mapping
    from pipeline.partitions import Day, utc_now
    from pipeline.stack.sample import fetch_sample
    from pipeline.steps.history import restate_history
    from pipeline.steps.log_loading import load_logs
    from pipeline.steps.preparation import prepare_stores

    with timings.stage("fetch the sample"):
        sample = fetch_sample(settings)
    with timings.stage("load the log"):
        loaded = load_logs(sample.events, sample.items, load_mapping(PRESET), settings, utc_now())
    console.print(
        f"MovieLens 100K: {loaded.rows:,} rows from {loaded.first_day} to {loaded.last_day}, {loaded.items:,} items"
    )
    with timings.stage("prepare the stores"):
        prepare_stores(settings)
    with timings.stage("history: publish, build, push"):
        history = restate_history(Day.parse(loaded.first_day), Day.parse(HISTORY_ENDS), settings, utc_now())
    show_history(history)
    return loaded.changed or history.events.changed or history.features.changed


def _train_first_models(settings: Settings, timings: Timings) -> bool:
    """Train both models as of the end of the history. Whether a version was new."""
    from pipeline.cli.edge import console
    from pipeline.partitions import Day, utc_now
    from pipeline.steps import collaborative_filter, interest_evolution
    from pipeline.steps.item_text import embed_items

    as_of = Day.parse(HISTORY_ENDS).end
    with timings.stage("embed the items"):
        items = embed_items(settings, utc_now())
    console.print(f"{items.items:,} items have a text vector, {items.embedded:,} of them new")
    is_new = False
    for train, gate in (
        (interest_evolution.train_interest_model, interest_evolution.gate_interest_model),
        (collaborative_filter.train_collaborative_filter, collaborative_filter.gate_collaborative_filter),
    ):
        name = train.__module__.rpartition(".")[2]
        console.print(f"{name}, trained on data before {as_of.date()}")
        with timings.stage(f"first {name}: train and evaluate"):
            trained = train(as_of, settings, utc_now())
        with timings.stage(f"first {name}: gate"):
            outcome = gate(as_of, settings, utc_now())
        before = " was there before" if trained.was_registered else ""
        console.print(f"  version {trained.version}{before}: {'promoted' if outcome.promoted else 'held'}")
        is_new = is_new or not trained.was_registered
    return is_new


def _run_the_week(settings: Settings, timings: Timings, is_new: bool) -> None:
    """Let Airflow run the days. Where it has done so, and nothing below has changed since, it need not be asked."""
    from pipeline.cli.backfill import through_airflow
    from pipeline.cli.edge import console
    from pipeline.partitions import Day
    from pipeline.stack.secrets import write_private

    done = settings.place(RESTATED)
    wanted = json.dumps({"first": FIRST, "last": LAST})
    if not is_new and done.is_file() and done.read_text() == wanted:
        console.print(f"{FIRST} to {LAST} have been run by Airflow, and nothing has changed since")
        return
    through_airflow(settings, Day.parse(FIRST), Day.parse(LAST), again=is_new and done.is_file(), timings=timings)
    write_private(done, wanted)


def _write_report(settings: Settings) -> None:
    from pipeline.partitions import utc_now
    from pipeline.steps.report import write_report

    write_report(settings, utc_now())


def _build_catalog(settings: Settings) -> None:
    from pipeline.partitions import utc_now
    from pipeline.steps.catalog import build_catalog

    build_catalog(settings, utc_now())
