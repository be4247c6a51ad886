"""
SIGTERM while a model is trained: noted, and obeyed when the batch is done and a checkpoint is written.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


class Termination:
    """Within it a SIGTERM only sets `asked`; `obey` then lets it have the effect that it would have had.

    Only the main thread of a process may say what a signal does; in another one nothing changes.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: object = None
        self._installed = False

    def __enter__(self) -> Termination:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
            self._installed = True
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.asked and error is None:
            self.obey()
        self._restore()

    def obey(self) -> None:
        """End the process as the signal would have, or raise SystemExit where whoever listened lets it live."""
        self._restore()
        signal.raise_signal(signal.SIGTERM)
        raise SystemExit(128 + signal.SIGTERM)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    def _restore(self) -> None:
        if self._installed:
            signal.signal(signal.SIGTERM, signal.SIG_DFL if self._before is None else self._before)
            self._installed = False
