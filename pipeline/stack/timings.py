"""Where the time of a job goes, and the most memory that it held at once."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from pipeline.settings import Settings
from pipeline.stack import processes

EVERY_SECONDS = 2.0


class Timings:
    """Stages in order, the tasks of the scheduler, and the peak of the whole process tree.

    Memory is the proportional share (PSS) of this process, its children and the stack's, so that a page that
    several of them share is counted once.
    """

    def __init__(self, settings: Settings):
        self._settings = settings
        self._began = time.monotonic()
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._sample, daemon=True)
        self.stages: list[tuple[str, float]] = []
        self.tasks: dict[str, list[float]] = {}
        self.peak_bytes = 0

    def __enter__(self) -> Timings:
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watch.join(timeout=EVERY_SECONDS * 2)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.stages.append((name, time.monotonic() - began))

    @property
    def total(self) -> float:
        return time.monotonic() - self._began

    def write(self) -> Path:
        """Write `<home>/timings.json` and return it."""
        file = self._settings.place("timings.json")
        facts = {
            "total_seconds": round(self.total, 1),
            "peak_memory_mb": round(self.peak_bytes / 1e6),
            "stages": [{"name": name, "seconds": round(seconds, 1)} for name, seconds in self.stages],
            "tasks": {name: [round(seconds, 1) for seconds in found] for name, found in self.tasks.items()},
        }
        file.write_text(json.dumps(facts, indent=1) + "\n")
        return file

    def _sample(self) -> None:
        while not self._over.wait(EVERY_SECONDS):
            roots = [psutil.Process(os.getpid()), *processes.running(self._settings).values()]
            members = {member.pid: member for root in roots for member in processes.family_of(root)}
            self.peak_bytes = max(self.peak_bytes, sum(map(_share_of, members.values())))


def _share_of(process: psutil.Process) -> int:
    try:
        return process.memory_full_info().pss
    except (psutil.Error, AttributeError):
        return 0
