"""
What the files of one delivered day hold, as a digest for each: of the file as it was delivered, before any erasure.

A digest is remembered beside the files, with what the file system says of the file, and made again only where that is
something else. So a file that is copied again with the same content is the same file, and one that is rewritten within
the clock's tick and in the same length is another.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection
from pathlib import Path

REMEMBERED = "_contents.json"


def digest_of(file: Path) -> str:
    """The digest of a file's bytes."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


class Contents:
    """The digests of the files in one folder, by name."""

    def __init__(self, folder: Path):
        self.place = folder / REMEMBERED
        try:
            self._known: dict[str, list] = json.loads(self.place.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # none yet, or one that was lost: they are made again
            self._known = {}
        self._as_read = dict(self._known)

    def of(self, file: Path) -> str:
        """The digest of a file as it was delivered."""
        seen, known = _seen(file), self._known.get(file.name)
        if known is None or known[0] != seen:
            known = self._known[file.name] = [seen, digest_of(file)]
        return known[1]

    def of_removed(self, name: str) -> str:
        """The digest of a file of which an erasure left nothing."""
        return self._known.get(name, [[], ""])[1]

    def is_rewritten(self, file: Path, delivered: str) -> None:
        """The file was changed by the platform itself; it stays what was delivered."""
        self._known[file.name] = [_seen(file), delivered]

    def remember(self, names: Collection[str] | None = None) -> None:
        """Write down what is known, of these files only where names are given. What is not is made again."""
        if names is not None:
            self._known = {name: known for name, known in self._known.items() if name in names}
        if self._known == self._as_read:
            return
        draft = self.place.with_name(f"{REMEMBERED}.{os.getpid()}")
        try:
            draft.write_text(json.dumps(self._known, sort_keys=True), encoding="utf-8")
            draft.replace(self.place)
        except OSError:
            draft.unlink(missing_ok=True)


def _seen(file: Path) -> list[int]:
    """Size, times and node: at least one is another one after every write."""
    told = file.stat()
    return [told.st_size, told.st_mtime_ns, told.st_ctime_ns, told.st_ino]
