"""
Reads log files: CSV, JSON lines, Parquet. A file that cannot be read is named, with the place.

CSV and JSON lines come back as text, Parquet with its own types; meaning is given to them later, by the mapping
or by the contract, so that one bad value never costs more than its row.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import polars as pl

from pipeline.errors import UnreadableFile
from pipeline.events.mapping import FileShape

ENDINGS = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
LIST_MARK = "\x1f"
"""Stands between the values of a list of JSON when it has become text."""


def read_table(path: Path, shape: FileShape, explode: str | None = None) -> pl.DataFrame:
    """All rows of a file, in its order; with `explode`, a row for each entry of that list column.

    The fields of an exploded entry stand beside those of its record and win where the names are equal.

    Raises:
        UnreadableFile: missing, empty, truncated, wrong encoding, not of its format.
    """
    size = _size_of(path)
    kind = shape.format or ENDINGS.get(path.suffix.lower())
    if kind is None:
        raise UnreadableFile(
            f"{path}: cannot tell the format from the ending {path.suffix!r}. Expected {', '.join(ENDINGS)}, "
            "or `format:` in the mapping."
        )
    if size == 0:
        raise UnreadableFile(f"{path} is empty (0 bytes). Deliver it again.")
    if kind == "parquet":
        return _read_parquet(path, size, explode)
    if kind == "jsonl":
        return _read_json_lines(path, shape.encoding, explode)
    return _read_csv(path, shape)


def _size_of(path: Path) -> int:
    try:
        if path.is_dir():
            raise UnreadableFile(f"{path} is a folder. Expected a file.")
        return path.stat().st_size
    except FileNotFoundError:
        raise UnreadableFile(f"{path} does not exist. Expected a CSV, JSON-lines or Parquet file.") from None
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be opened: {error.strerror}.") from error


def _read_parquet(path: Path, size: int, explode: str | None) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        with path.open("rb") as file:
            starts = file.read(4) == b"PAR1"
            file.seek(max(0, size - 4))
            ends = file.read(4) == b"PAR1"
        if not starts:
            what = "is not a Parquet file: it does not begin with PAR1"
        elif not ends:
            what = f"is truncated: after {size:,} bytes the closing PAR1 is missing"
        else:
            what = f"is damaged: {_first_line(error)}"
        raise UnreadableFile(f"{path} {what}. Deliver it again.") from error
    if explode is None or explode not in frame.columns:
        return frame
    entries = frame.filter(pl.col(explode).list.len() > 0).explode(explode)
    inner = entries.schema[explode]
    if not isinstance(inner, pl.Struct):
        raise UnreadableFile(f"{path}: column {explode!r} holds {inner}. Expected a list of records.")
    clash = [field.name for field in inner.fields if field.name in entries.columns and field.name != explode]
    return entries.drop(clash).unnest(explode)


def _read_csv(path: Path, shape: FileShape) -> pl.DataFrame:
    content = _as_utf8(path, shape.encoding)
    try:
        return pl.read_csv(io.BytesIO(content), separator=shape.separator, infer_schema=False)
    except pl.exceptions.NoDataError:
        raise UnreadableFile(f"{path} is empty: it has no header. Deliver it again.") from None
    except pl.exceptions.PolarsError as error:
        raise UnreadableFile(
            f"{path} is not a readable CSV file{_bad_csv_line(content, shape.separator)}: {_first_line(error)}."
        ) from error


def _bad_csv_line(content: bytes, separator: str) -> str:
    """Where the first row with too many fields, or an unclosed quote, is; empty when it cannot be told."""
    import csv

    rows = csv.reader(io.StringIO(content.decode("utf-8")), delimiter=separator, strict=True)
    try:
        header = next(rows)
        for row in rows:
            if len(row) > len(header):
                return f", line {rows.line_num} has {len(row)} fields and the header {len(header)}"
    except csv.Error:
        return f", line {rows.line_num}"
    return ""


def _read_json_lines(path: Path, encoding: str, explode: str | None) -> pl.DataFrame:
    columns: dict[str, list[str | None]] = {}
    height = 0
    # Lines end at \n only: str.splitlines would also cut at characters that JSON allows inside a text.
    for number, line in enumerate(_as_utf8(path, encoding).decode("utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        for record in _records(path, number, line, explode):
            for name in record:
                if name not in columns:
                    columns[name] = [None] * height
            for name, values in columns.items():
                values.append(_as_text(record.get(name)))
            height += 1
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String()))


def _records(path: Path, number: int, line: str, explode: str | None) -> list[dict]:
    try:
        record = json.loads(line)
    except ValueError as error:
        place = f"line {number}, column {getattr(error, 'colno', 1)}"
        raise UnreadableFile(
            f"{path}, {place}: not JSON ({getattr(error, 'msg', error)}). The file may be truncated; deliver it again."
        ) from error
    if not isinstance(record, dict):
        raise UnreadableFile(f"{path}, line {number}: found {type(record).__name__}. Expected a JSON object.")
    if explode is None:
        return [record]
    entries = record.pop(explode, None) or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UnreadableFile(f"{path}, line {number}: {explode!r} is not a list of JSON objects.")
    return [{**record, **entry} for entry in entries]


def _as_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value if value is None else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list) and all(isinstance(entry, str | int | float) for entry in value):
        return LIST_MARK.join(_as_text(entry) or "" for entry in value)
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _as_utf8(path: Path, encoding: str) -> bytes:
    """The file's bytes in UTF-8, without a byte-order mark. Raises UnreadableFile with the offset of a bad byte."""
    content = path.read_bytes()
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        guess = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "cp1252"
        raise UnreadableFile(
            f"{path} is not {encoding}: byte {content[error.start]:#04x} at offset {error.start:,} (line {line:,}). "
            f"If it is another encoding, name it in the mapping, for example `encoding: {guess}`."
        ) from error
    return text.removeprefix("\ufeff").encode("utf-8")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
