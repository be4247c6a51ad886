"""`interest benchmark`: our models and what one would pick instead, on any log."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Split(StrEnum):
    """How the log is cut."""

    time = "time"
    leave_one_out = "leave-one-out"


def benchmark(
    events: Annotated[Path, typer.Option(metavar="FILE", help="The log: CSV, JSON lines or Parquet.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Tables, plots, recommendations and the text cache.")],
    items: Annotated[Path | None, typer.Option(metavar="FILE", help="The catalogue, where there is one.")] = None,
    mapping: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="Where the columns are: a preset's name or a YAML file.")
    ] = None,
    preset: Annotated[str | None, typer.Option(metavar="NAME", help="The same, for a preset.")] = None,
    split: Annotated[Split, typer.Option(help="By time, or each user's last two events apart.")] = Split.time,
    quantile: Annotated[float, typer.Option(help="Of the events' times: where the test begins (split time).")] = 0.9,
    budget_cpu_seconds: Annotated[float, typer.Option(help="CPU seconds of training, each seed.")] = 150.0,
    seeds: Annotated[int, typer.Option(help="How many, counted from --first-seed.")] = 3,
    first_seed: Annotated[int, typer.Option(help="The first seed.")] = 7,
    models: Annotated[str, typer.Option(metavar="A,B", help="Some of the models; all by default.")] = "",
    include_seen: Annotated[bool, typer.Option("--include-seen", help="Items may be asked for again.")] = False,
    diversity: Annotated[
        float, typer.Option(help="From 0 to 1: how much all lists are made of items whose texts are unlike.")
    ] = 0.0,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A field of the interest model's configuration; repeat."),
    ] = None,
    forecasts: Annotated[
        bool, typer.Option("--forecasts", help="Also forecast the category mix, beside ETS, ARIMA and an LSTM.")
    ] = False,
    ablation: Annotated[
        bool, typer.Option("--ablation", help="Also train the interest model without some of its parts, each seed.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Measure all models and the baselines on one split of any log. Needs no home and changes nothing but --out.

    Example: interest benchmark --events ratings.csv --items movies.csv --preset movielens --out /tmp/benchmark
    """
    import shlex
    import sys

    from pipeline.benchmark.contenders import models_at_hand
    from pipeline.benchmark.forecasts import ForecastPlan
    from pipeline.benchmark.log import read_log
    from pipeline.benchmark.provenance import digest_of
    from pipeline.benchmark.run import BenchmarkPlan, run_benchmark
    from pipeline.cli.edge import console, escaped, print_json, require_writable
    from pipeline.errors import BadSetting
    from pipeline.events.mapping import load_mapping
    from pipeline.observability import configure_logs
    from pipeline.partitions import utc_now
    from pipeline.settings import Settings

    configure_logs(level="WARNING")
    if (mapping is None) == (preset is None):
        raise BadSetting("Give either --mapping (a file or a preset) or --preset (a preset): where the columns are.")
    settings = Settings()
    plan = BenchmarkPlan(
        kind=split.value,
        quantile=quantile,
        budget_cpu_seconds=budget_cpu_seconds,
        seeds=seeds,
        first_seed=first_seed,
        models=tuple(dict.fromkeys(name.strip() for name in models.split(",") if name.strip())) or models_at_hand(),
        include_seen=include_seen,
        diversity=diversity,
        encoder=settings.text.encoder,
        batch_size=settings.text.batch_size,
        max_tokens=settings.text.max_tokens,
        model_changes=_changes(change or []),
        forecasts=ForecastPlan(seed=first_seed) if forecasts else None,
        ablation=ablation,
    )
    require_writable(out)
    log = read_log(events, items, load_mapping(mapping or preset), settings.logs.earliest_event, utc_now())
    command = shlex.join(["interest", *sys.argv[1:]])
    result = run_benchmark(
        log, plan, out, command, say=(lambda text: None) if as_json else lambda text: console.print(escaped(text))
    )
    digests = {str(path.name): digest_of(path) for path in (events, items) if path is not None}
    if as_json:
        print_json(result | {"files": digests})
        return
    for line in (out / "benchmark.md").read_text(encoding="utf-8").splitlines():
        console.print(escaped(line))
    for name, digest in digests.items():
        console.print(f"{escaped(name)}  sha256 {digest}")
    console.print(f"Written to {escaped(out)}: benchmark.md, benchmark.json, plots, targets and recommendations.")


def _changes(given: list[str]) -> dict[str, object]:
    """`name=value` pairs, values as JSON where they are JSON. Raises BadSetting."""
    import json

    from pipeline.errors import BadSetting
    from pipeline.models.interest_config import InterestEvolutionConfig

    found: dict[str, object] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals:
            raise BadSetting(f"--set {pair!r} is not NAME=VALUE.")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    InterestEvolutionConfig.changed(found)
    return found
