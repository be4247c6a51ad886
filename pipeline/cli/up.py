"""`interest up`: keep the stack running in the background."""

from __future__ import annotations

from typing import Annotated

import typer


def up(
    ctx: typer.Context,
    only_airflow: Annotated[
        bool, typer.Option("--only-airflow", help="Leave out the servers of MLflow, Feast and the catalogue.")
    ] = False,
) -> None:
    """Start Airflow, MLflow, Feast and the catalogue in the background; what is up already is left alone.

    Example: interest up
    """
    from pipeline.cli.edge import console, settings_of
    from pipeline.partitions import utc_now
    from pipeline.stack.embedded import addresses, start_airflow, start_servers
    from pipeline.stack.secrets import ADMIN, secrets_of
    from pipeline.steps.catalog import build_catalog
    from pipeline.stores.feature_store import apply_definitions

    settings = settings_of(ctx)
    started = start_airflow(settings, console.print)
    if not only_airflow:
        apply_definitions(settings)
        build_catalog(settings, utc_now())
        started = start_servers(settings, console.print) or started
    if not started:
        console.print("everything is up already")
    for address in addresses(settings)[: 1 if only_airflow else None]:
        console.print(f"  {address.name:<16} {address.url}")
    console.print(f"Sign in to Airflow as {ADMIN} with {secrets_of(settings).admin_password}")
    console.print("Stop everything: interest down")
