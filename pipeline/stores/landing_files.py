"""
Writes one file of the landing folder anew, with other users or without some: in its own format and order, in one move.
What the file says beside its users stays as it is.
"""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import polars as pl

from pipeline.errors import UnreadableFile

USER, EVENT = "user_id", "event_id"


def rewrite_users(file: Path, user_ids: pl.Series, keep: pl.Series, event_ids: pl.Series | None = None) -> None:
    """Replace the users of a file, row by row, and leave out the rows that are not kept.

    Args:
        file: Parquet, CSV or JSON lines with a column `user_id`.
        user_ids: the new id of every row, in the file's order.
        keep: a mask of the rows that stay.
        event_ids: what the events are called, written where the file does not say it: an id that is derived from the
            row would become another one with another user.

    Raises:
        UnreadableFile: the file has another number of rows than the two say. Nothing was written.
    """
    draft = file.with_name(f"_{file.name}.{os.getpid()}")
    new = pl.DataFrame({USER: user_ids.cast(pl.String)})
    if event_ids is not None:
        new = new.with_columns(event_ids.alias(EVENT))
    try:
        if file.suffix.lower() == ".parquet":
            _parquet(file, draft, new, keep)
        elif file.suffix.lower() in (".jsonl", ".ndjson"):
            _json_lines(file, draft, new, keep)
        else:
            _csv(file, draft, new, keep)
        arrived = file.stat()
        os.utime(draft, ns=(arrived.st_atime_ns, arrived.st_mtime_ns))  # It says when the collector delivered.
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def _parquet(file: Path, draft: Path, new: pl.DataFrame, keep: pl.Series) -> None:
    rows = pl.read_parquet(file)
    _same_rows(file, rows.height, new)
    if EVENT in new.columns and EVENT in rows.columns:
        new = new.with_columns(pl.coalesce(rows[EVENT].cast(pl.String), EVENT))
    rows.with_columns(new.get_columns()).filter(keep).write_parquet(draft)


def _json_lines(file: Path, draft: Path, new: pl.DataFrame, keep: pl.Series) -> None:
    lines = [line for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
    _same_rows(file, len(lines), new)
    written = []
    for line, said, kept in zip(lines, new.iter_rows(named=True), keep, strict=True):
        record = json.loads(line.removeprefix("\ufeff"))
        if kept:
            wanted = record | said | ({EVENT: record[EVENT]} if record.get(EVENT) is not None else {})
            written.append(line if wanted == record else json.dumps(wanted, ensure_ascii=False))
    draft.write_text("".join(f"{line}\n" for line in written), encoding="utf-8")


def _csv(file: Path, draft: Path, new: pl.DataFrame, keep: pl.Series) -> None:
    content = file.read_text(encoding="utf-8-sig")
    header, *rows = (row for row in csv.reader(io.StringIO(content, newline="")) if row)
    _same_rows(file, len(rows), new)
    header += [EVENT] if EVENT in new.columns and EVENT not in header else []
    with draft.open("w", encoding="utf-8", newline="") as written:
        writer = csv.writer(written, lineterminator="\n")
        writer.writerow(header)
        for row, said, kept in zip(rows, new.iter_rows(named=True), keep, strict=True):
            if kept:
                record = dict(zip(header, row, strict=False))
                record |= said | ({EVENT: record[EVENT]} if record.get(EVENT) else {})
                writer.writerow([record.get(name) or "" for name in header])


def _same_rows(file: Path, rows: int, new: pl.DataFrame) -> None:
    if rows != new.height:
        raise UnreadableFile(f"{file} has {rows} rows and {new.height} were read: it changed meanwhile. Try again.")
