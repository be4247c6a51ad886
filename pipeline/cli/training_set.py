"""`interest training-set`: features as they were at the time of each row."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.edge import console, escaped, print_json, settings_of


def training_set(
    ctx: typer.Context,
    entities: Annotated[
        Path | None,
        typer.Option(help="Parquet or CSV with user_id, event_timestamp and any columns of your own.", metavar="FILE"),
    ] = None,
    service: Annotated[str, typer.Option(help="The feature service to join.")] = "training_v1",
    out: Annotated[Path | None, typer.Option(help="The .parquet file to write.", metavar="FILE")] = None,
    as_served: Annotated[
        bool, typer.Option("--as-served", help="Leave out what was written after a row's time, such as corrections.")
    ] = False,
    allow_reencoded: Annotated[
        bool, typer.Option("--allow-reencoded", help="Accept vectors of models that were trained after a row's time.")
    ] = False,
    repeat: Annotated[
        Path | None,
        typer.Option(help="Make the set of this manifest again, from the table versions it names.", metavar="MANIFEST"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as one JSON object.")] = False,
) -> None:
    """Join features point in time: each row gets what was true of its user at its time, and nothing later.

    Every row comes back once, in its order. What was returned is recorded beside the file (FILE.parquet.json) and in
    MLflow; --repeat makes it again, and exits with 3 where it came out different.

    Example: interest training-set --entities labels.parquet --service training_v1 --out set.parquet

    Example: interest training-set --repeat set.parquet.json --out again.parquet
    """
    from pipeline.errors import BadData, UserMistake
    from pipeline.partitions import utc_now

    if out is None or out.suffix != ".parquet" or not out.parent.is_dir():
        raise UserMistake("--out names the .parquet file to write, in a folder that exists.")
    if entities is None and repeat is None:
        raise UserMistake("Name the rows with --entities FILE, or an earlier set with --repeat MANIFEST.")
    settings, now = settings_of(ctx), utc_now()
    from pipeline.serving import training_set as sets

    differences: list[str] = []
    if repeat is None:
        made = sets.training_set(
            sets.read_entities(entities),
            service,
            settings,
            known_at=now,
            as_served=as_served,
            allow_reencoded=allow_reencoded,
        )
    else:
        manifest = sets.read_manifest(repeat)
        entities = entities or Path(manifest.entities)
        made, differences = sets.repeat_training_set(manifest, sets.read_entities(entities), settings, now)
    place = sets.save_training_set(made, out, entities)
    sets.log_training_set(made, out, place, settings)
    if as_json:
        print_json(made.manifest)
    else:
        console.print(f"{made.manifest.rows:,} rows of {escaped(made.manifest.service)} in {escaped(out)}")
        for view, rows in made.manifest.without_features.items():
            console.print(f"  {view}: {made.manifest.rows - rows:,} rows have it, {rows:,} had nothing at their time")
        if made.manifest.reencoded:
            console.print(f"  {made.manifest.reencoded:,} rows carry a vector that knows later data, as you allowed")
        console.print(f"  content {made.manifest.content_hash[:12]}, manifest {escaped(place)}")
    if differences:
        raise BadData(f"It is not the same set as before: {'; '.join(differences)}.")
    if repeat is not None and not as_json:
        console.print("  the same as before, byte for byte of content")
