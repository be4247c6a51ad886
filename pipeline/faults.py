"""
Named crash points: places at which a test lets a process die, fail or wait. They do nothing unless one is armed.

    reach("publish.before_commit")                        in the code, where a crash would hurt most
    INTEREST_FAULT=publish.before_commit:kill             dies there, as of `kill -9`
    INTEREST_FAULT=publish.before_commit:kill:2           the second time that it gets there
    INTEREST_FAULT=publish.before_commit:raise            fails there with an error that is worth a retry
    INTEREST_FAULT=publish.before_commit:sleep:5          waits there for five seconds, every time

It is the setting `fault`, which the production profile refuses. Loading settings that name a fault arms it.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

from pipeline.errors import BadSetting, EngineFailure

POINTS = {
    "publish.validate": "the rows of a day are judged one by one; the day is not",
    "publish.before_commit": "a table is about to write the files of a partition",
    "publish.after_commit": "a table has committed a partition; nothing else knows of it",
    "push.before_batch": "a batch of rows is about to go online; those before it are served",
    "checkpoint.before_manifest": "a checkpoint's tensors are written; its manifest is not",
    "train.before_model": "training has ended; its model is not kept yet",
    "register.before_log": "a trained model is kept; MLflow knows nothing of it",
    "register.before_version": "MLflow has the model's files; no version names them",
    "register.before_alias": "a version is registered; no alias points to it",
    "promote.before_status": "the reasons of a decision are written; the decision is not",
    "promote.before_alias": "a version is promoted; the alias points to the one before",
    "promote.before_ledger": "the alias has moved; the ledger does not know",
    "backfill.after_partition": "a day of a backfill is written; its record does not say so",
    "erase.before_place": "an erasure has noted what it will remove from a place, and has not begun",
    "erase.after_commit": "an erasure has taken rows out of a table; the ledger does not know",
    "erase.after_place": "a place is emptied; the receipt does not say so",
}
"""Every point, and what is true when it is reached."""
KINDS = ("kill", "raise", "sleep")


@dataclass(frozen=True)
class Fault:
    """What is to happen at a point. `amount`: at which time that it is reached, or for how many seconds."""

    point: str
    kind: str
    amount: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read `point:kind[:amount]`. Raises BadSetting, which names the points and kinds that there are."""
        point, kind, amount, *more = [*text.split(":"), "", ""]
        if point not in POINTS:
            raise BadSetting(f"There is no crash point {point!r}. Points: {', '.join(POINTS)}.")
        if kind not in KINDS:
            raise BadSetting(f"A fault is {', '.join(KINDS)}, not {kind!r}. Write {point}:kill.")
        try:
            number = float(amount or 1)
        except ValueError:
            number = -1.0
        if any(more) or not 0 < number < 1e6 or (kind != "sleep" and not number.is_integer()):
            meaning = "seconds" if kind == "sleep" else "the how manyth time"
            raise BadSetting(f"The fault {text!r} ends in {amount!r}, which is not {meaning}. Write {point}:{kind}:2.")
        return cls(point, kind, number)

    def __str__(self) -> str:
        return f"{self.point}:{self.kind}:{self.amount:g}"


_armed: Fault | None = None
_reached = 0


def arm(text: str) -> None:
    """Let what `text` says happen in this process, counted from now; an empty one arms nothing. Raises BadSetting."""
    global _armed, _reached
    wanted = Fault.parse(text) if text else None
    if wanted != _armed:
        _armed, _reached = wanted, 0


def reach(point: str) -> None:
    """Say that a point is reached. Does nothing unless it is armed. Raises KeyError for a point without a name here."""
    if _armed is None:
        return
    global _reached
    POINTS[point]
    if point != _armed.point:
        return
    _reached += 1
    if _armed.kind == "sleep":
        time.sleep(_armed.amount)
    elif _reached == _armed.amount:
        if _armed.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise EngineFailure(f"The fault that is armed was reached at {point}. Unset INTEREST_FAULT, then run it again.")
