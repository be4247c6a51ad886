"""`interest backfill`: plan a backfill, run it, or bring in everything that has landed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.partitions import Day
    from pipeline.settings import Settings
    from pipeline.stack.restate import Progress
    from pipeline.stack.timings import Timings
    from pipeline.steps.backtests import Backtested
    from pipeline.steps.history import RestatedHistory

First = Annotated[str, typer.Option("--from", metavar="DAY", help="First UTC day, YYYY-MM-DD.")]
Last = Annotated[str, typer.Option("--to", metavar="DAY", help="Last UTC day, included.")]
Reason = Annotated[
    str, typer.Option(help="Why every partition of the range is to be written, whatever stands; done once a reason.")
]
Tables = Annotated[list[str] | None, typer.Option(help="Only this table; may be given more than once.")]
Again = Annotated[bool, typer.Option("--again", help="Write everything of the range, whatever stands.")]
Accept = Annotated[
    bool, typer.Option("--accept", help="Go on although the first partition differs by more than the tolerance.")
]
WithoutAirflow = Annotated[
    bool, typer.Option("--without-airflow", help="Write the days here, one after another, and only what is planned.")
]
TrainAsOf = Annotated[
    str | None,
    typer.Option("--train-as-of", metavar="DAY", help="Also train both models as of this UTC day, to look back."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]


def backfill(
    ctx: typer.Context,
    first: Annotated[str | None, typer.Option("--from", metavar="DAY", help="First UTC day, YYYY-MM-DD.")] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="DAY", help="Last UTC day, included.")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Also run days that have succeeded before, for example after a fix.")
    ] = False,
    in_one_pass: Annotated[
        bool, typer.Option("--in-one-pass", help="Publish and build the days here, in one pass, without Airflow.")
    ] = False,
) -> None:
    """Bring in everything that has landed; with --from and --to, run a planned backfill of a range of days.

    Without --from and --to: the last whole week and what follows goes through Airflow as scheduled runs would, run by
    run, pushed online, and trained once a week; the past before it is published and built in one pass, without
    models, which is what `interest train` needs to learn from. Airflow is started for the time, unless `interest up`
    has done it.

    With them it is `interest backfill run`, which pushes and trains nothing; `interest backfill plan` says what it
    would do.

    Your own log: interest load ..., then interest backfill, then interest train, then interest recommend.

    Example: interest backfill --from 2026-03-02 --to 2026-03-08

    Example: interest backfill plan --from 2026-03-02 --to 2026-03-08
    """
    if ctx.invoked_subcommand is not None:
        return
    from pipeline.cli.edge import console, settings_of
    from pipeline.errors import BadPartition, ContractViolation
    from pipeline.partitions import Day, days_between, utc_now
    from pipeline.stack.timings import Timings
    from pipeline.steps.history import plan_history, restate_history
    from pipeline.steps.preparation import prepare_stores

    settings = settings_of(ctx)
    if (first is None) != (last is None):
        raise BadPartition("--from and --to belong together. Give both, or neither for everything that has landed.")
    if first is not None and not in_one_pass:
        return run(ctx, first, last, again=again)
    if first is not None:
        past, recent = (Day.parse(first), Day.parse(last)), None
        list(days_between(*past))
    else:
        plan = plan_history(settings)
        past = tuple(map(Day.parse, plan.past)) if plan.past else None
        recent = tuple(map(Day.parse, plan.recent))
        if in_one_pass:
            past, recent = ((past or recent)[0], recent[1]), None
    prepare_stores(settings)
    failed: dict[str, str] = {}
    with Timings(settings) as timings:
        if past:
            history = restate_history(*past, settings, utc_now(), push=first is None)
            show_history(history)
            failed = history.events.failed
        if recent:
            through_airflow(settings, *recent, again, timings)
            console.print(f"{recent[0]} to {recent[1]} restated in {timings.total:.0f} s")
    if failed:
        key, why = next(iter(failed.items()))
        raise ContractViolation(f"{len(failed)} days were not published, the others were. {key}: {why}")
    console.print("Next: interest train; what there is: interest status")
    return None


def through_airflow(
    settings: Settings,
    first: Day,
    last: Day,
    again: bool,
    timings: Timings,
    backfill: str | None = None,
    show_too: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Run the days through Airflow and wait, showing how it goes. Stops Airflow unless it was up before.

    With `backfill`, the id of a plan, the runs write tables only; without it they push and train as scheduled ones do.

    Raises:
        RunFailed: a run failed; the end of its log has been printed.
        BadSetting: Airflow's port is taken.
    """
    from pipeline.cli.edge import console, printable
    from pipeline.cli.progress import shown
    from pipeline.errors import RunFailed
    from pipeline.partitions import utc_now
    from pipeline.stack.airflow_api import AirflowApi
    from pipeline.stack.embedded import AIRFLOW, start_airflow
    from pipeline.stack.processes import stop
    from pipeline.stack.restate import restate

    with timings.stage("start Airflow"):
        started = start_airflow(settings, console.print)
    api = AirflowApi(settings)
    since = utc_now()
    try:
        with timings.stage("days through Airflow"), shown(console) as show:

            def told(progress: Progress) -> None:
                show(progress)
                show_too(progress)

            restate(api, first, last, again, told, backfill=backfill)
    except RunFailed as failure:
        for line in failure.log:
            console.print(f"    {printable(line)}", markup=False, style="dim")
        raise
    finally:
        for task in api.tasks(start_date_gte=since.isoformat()):
            timings.tasks.setdefault(f"{task['dag_id']}.{task['task_id']}", []).append(task["duration"] or 0.0)
        if started:
            with timings.stage("stop Airflow"):
                stop(settings, list(AIRFLOW))


def show_history(history: RestatedHistory) -> None:
    """What became of the past, in words."""
    from pipeline.cli.edge import console

    events = history.events
    counts = {name: events.total(name) for name in ("read", "published", "quarantined", "duplicates")}
    console.print(
        f"{events.first} to {events.last}: {counts['read']:,} rows in = {counts['published']:,} published + "
        f"{counts['quarantined']:,} quarantined + {counts['duplicates']:,} duplicates, on {len(events.days):,} days"
    )
    console.print(f"  {history.features.rows:,} rows of features for {history.features.users:,} users")
    for pushed in history.pushed:
        console.print(f"  {pushed.accepted:,} of {pushed.rows:,} users pushed online: {pushed.view}")
    if events.failed:
        console.print(f"  {len(events.failed):,} days were not published")


def plan(
    ctx: typer.Context,
    first: First,
    last: Last,
    reason: Reason = "",
    tables: Tables = None,
    train_as_of: TrainAsOf = None,
    as_json: AsJson = False,
) -> None:
    """Print what a backfill would write and why, how much, and how long it would take. Touches nothing.

    A partition is written when it is missing, when what it is made from has another version, when its definition (the
    code of the feature, the contract, the settings that matter) has changed, when files have landed since, or when
    it is asked for with --reason.

    Example: interest backfill plan --from 2026-03-02 --to 2026-03-08

    Example: interest backfill plan --from 2026-03-02 --to 2026-03-08 --reason "the prices were wrong" --json
    """
    from pipeline.cli.backfill_words import show_plan
    from pipeline.cli.edge import print_json, settings_of
    from pipeline.partitions import Day
    from pipeline.steps.backfill_plan import plan_backfill

    settings = settings_of(ctx)
    as_of = Day.parse(train_as_of) if train_as_of else None
    made = plan_backfill(Day.parse(first), Day.parse(last), settings, tables or (), reason, train_as_of=as_of)
    if as_json:
        print_json(made)
    else:
        show_plan(made)


def run(
    ctx: typer.Context,
    first: First,
    last: Last,
    reason: Reason = "",
    tables: Tables = None,
    again: Again = False,
    accept: Accept = False,
    without_airflow: WithoutAirflow = False,
    train_as_of: TrainAsOf = None,
    as_json: AsJson = False,
) -> None:
    """Execute a plan: try one partition and compare it with what stands, then write it, then the rest.

    The rest goes through Airflow's own backfill, unless --without-airflow or --tables is given. Nothing is pushed
    online. No model is trained, but with --train-as-of, as a backtest that can never serve. Safe to repeat: a second
    run finds nothing to do, and after a crash the same command goes on at the day where it stopped.

    Example: interest backfill run --from 2026-03-02 --to 2026-03-08

    Example: interest backfill run --from 2026-03-02 --to 2026-03-08 --accept --without-airflow
    """
    from pipeline.cli.backfill_words import show_backfilled, show_backtested, show_plan
    from pipeline.cli.edge import print_json, settings_of
    from pipeline.cli.planned_days import planned_through_airflow
    from pipeline.observability import facts_of
    from pipeline.partitions import Day, days_between, utc_now
    from pipeline.steps.backfill import run_backfill
    from pipeline.steps.backfill_plan import plan_backfill
    from pipeline.steps.preparation import prepare_stores

    settings = settings_of(ctx)
    days = Day.parse(first), Day.parse(last)
    as_of = Day.parse(train_as_of) if train_as_of else None
    list(days_between(*days))
    prepare_stores(settings)
    made = plan_backfill(*days, settings, tables or (), reason, again, as_of)
    if not as_json:
        show_plan(made)
    execute = None if without_airflow or tables else planned_through_airflow(settings)
    done = run_backfill(made, settings, utc_now(), execute, accept)
    if not as_json:
        show_backfilled(done)
    trained = _trained(as_of, settings) if as_of else None
    if as_json:
        print_json({"backfill": facts_of(done), "backtests": facts_of(trained) if trained else None})
    elif trained:
        show_backtested(trained)


def _trained(as_of: Day, settings: Settings) -> Backtested:
    from pipeline.partitions import utc_now
    from pipeline.steps.backtests import train_backtests

    return train_backtests(as_of, settings, utc_now())


SUBCOMMANDS = {"plan": plan, "run": run}
ALSO_ALONE = True
"""`interest backfill` by itself is a command, too."""
