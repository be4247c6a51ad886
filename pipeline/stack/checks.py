"""The check-up of the stack: its ports, its processes, its secrets."""

from __future__ import annotations

import contextlib
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil

from pipeline.errors import BadSetting
from pipeline.settings import Settings
from pipeline.stack import processes
from pipeline.stack.embedded import CATALOG_HOST, require_free
from pipeline.steps.findings import Finding, error, fine, warning

PRIVATE = ("airflow/secrets.json", "airflow/passwords.json", "feast/feature_store.yaml")
OWNERS_ONLY = 0o600


def check_stack(settings: Settings) -> list[Finding]:
    """What the stack of this home needs or has left behind."""
    return [*_ports(settings), *_pid_files(settings), *_modes(settings)]


def _ports(settings: Settings) -> Iterator[Finding]:
    ours = {
        connection.laddr.port
        for service in processes.running(settings).values()
        for member in processes.family_of(service)
        for connection in _listening(member)
    }
    for name, port, host in (
        ("airflow.port", settings.airflow.port, settings.airflow.host),
        ("ports.mlflow", settings.ports.mlflow, settings.airflow.host),
        ("ports.feast", settings.ports.feast, settings.airflow.host),
        ("ports.feast_ui", settings.ports.feast_ui, settings.airflow.host),
        ("ports.catalog", settings.ports.catalog, CATALOG_HOST),
    ):
        if port in ours:
            yield fine(f"port {port}", f"{name}: held by this home's stack")
            continue
        try:
            require_free(settings, port, name, host)
        except BadSetting as taken:
            yield error(f"port {port}", str(taken), "a free port, or one of this home's stack", f"Change {name}.")
        else:
            yield fine(f"port {port}", f"{name}: free")


def _listening(process: psutil.Process) -> list:
    try:
        return [c for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []


def _pid_files(settings: Settings) -> Iterator[Finding]:
    stale = []
    alive: set[str] = set()
    with contextlib.suppress(json.JSONDecodeError, TypeError):  # A pid file that a crash cut short is a stale one.
        alive = set(processes.running(settings))
    for file in sorted(settings.place("run").glob("*.pid")):
        if file.stem not in alive:
            stale.append(file.name)
    if stale:
        yield warning(
            "processes",
            f"pid files without a process: {', '.join(stale)}",
            "none",
            "They died or the machine was restarted: `interest down` clears them.",
        )
    else:
        yield fine("processes", f"{len(alive)} of this home are running" if alive else "none is running")


def _modes(settings: Settings) -> Iterator[Finding]:
    """A secret must be readable by its owner alone."""
    held = [file for name in PRIVATE if (file := settings.place(name)).is_file()]
    open_files = [(file, stat.S_IMODE(file.stat().st_mode)) for file in held]
    wrong = [(file, mode) for file, mode in open_files if mode & 0o077]
    for file, mode in wrong:
        yield error(f"mode of {file.name}", f"{mode:03o}", f"{OWNERS_ONLY:03o}", f"chmod 600 {file}; {_renew(file)}")
    if held and not wrong:
        yield fine("secrets", f"{len(held)} files, readable by their owner alone")


def _renew(file: Path) -> str:
    return "others may have read it: delete it and start the stack again to make new secrets."
