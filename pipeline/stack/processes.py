"""
Processes in the background, each with a pid file and a log, stopped as whole trees so that none is left over.

A pid is trusted only together with the moment at which its process was started: a number that the system has
given to somebody else is never signalled.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline.settings import Settings
from pipeline.stack.secrets import write_private

GRACE_SECONDS = 15.0


@dataclass(frozen=True)
class Service:
    """One process of the stack."""

    name: str
    command: list[str]


def start(settings: Settings, service: Service, environment: dict[str, str]) -> int:
    """Start `service` in a session of its own, its output in `<home>/logs/<name>.log`. Returns its pid."""
    log = log_file(settings, service.name)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            service.command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    facts = {"pid": process.pid, "started": psutil.Process(process.pid).create_time()}
    write_private(settings.place("run") / f"{service.name}.pid", json.dumps(facts))
    return process.pid


def running(settings: Settings) -> dict[str, psutil.Process]:
    """The processes of this home folder that are alive, by name."""
    alive = {}
    for file in sorted(settings.place("run").glob("*.pid")):
        try:
            facts = json.loads(file.read_text())
            process = psutil.Process(facts["pid"])
            same = abs(process.create_time() - facts["started"]) < 1.0
            if same and process.status() != psutil.STATUS_ZOMBIE:
                alive[file.stem] = process
        except (OSError, ValueError, KeyError, TypeError, psutil.NoSuchProcess):
            continue
    return alive


def stop(settings: Settings, names: list[str] | None = None) -> list[str]:
    """Stop the named processes (all of them by default) with everything they started. Returns their names.

    The scheduler goes first and may finish what it is doing, while the servers that its tasks need still answer.
    """
    wanted = {name: p for name, p in running(settings).items() if names is None or name in names}
    rest = [member for process in wanted.values() for member in family_of(process)]
    _end([process for name, process in wanted.items() if name == "scheduler"], "terminate", GRACE_SECONDS)
    for how in ("terminate", "kill"):
        rest = _end(rest, how, 5.0)
    for file in settings.place("run").glob("*.pid"):
        if names is None or file.stem in names:
            file.unlink(missing_ok=True)
    return sorted(wanted)


def family_of(process: psutil.Process) -> list[psutil.Process]:
    """A process and all its descendants."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def log_file(settings: Settings, name: str) -> Path:
    return settings.place("logs") / f"{name}.log"


def log_tail(settings: Settings, name: str, lines: int = 8) -> str:
    """The last lines of a process's log."""
    file = log_file(settings, name)
    if not file.is_file():
        return ""
    with file.open(errors="replace") as handle:
        return "".join(deque(handle, maxlen=lines)).strip()


def wait_until(condition, seconds: float, every: float = 0.5) -> bool:
    """Whether `condition()` came true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(every)
    return bool(condition())


def _end(members: list[psutil.Process], how: str, patience: float) -> list[psutil.Process]:
    """Signal all of them and wait; returns those that are still there."""
    for process in members:
        with contextlib.suppress(psutil.NoSuchProcess):
            getattr(process, how)()
    return psutil.wait_procs(members, timeout=patience)[1]
