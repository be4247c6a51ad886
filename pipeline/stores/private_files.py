"""Files that only their owner may read: keys, passwords, tokens."""

from __future__ import annotations

import os
from pathlib import Path


def write_private(file: Path, text: str) -> None:
    """Replace `file` in one move; from its first byte on, only its owner may read it (mode 600)."""
    _draft(file, text).replace(file)


def create_private(file: Path, text: str) -> bool:
    """Make `file` unless it is there; False where somebody else was first. Whole or not at all, mode 600."""
    draft = _draft(file, text)
    try:
        file.hardlink_to(draft)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def _draft(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(text)
    return draft
