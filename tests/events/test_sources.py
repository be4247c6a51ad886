"""A file that cannot be read is named, with the place; a file that can be read loses nothing."""

import json
from pathlib import Path

import polars as pl
import pytest

from pipeline.errors import UnreadableFile
from pipeline.events.mapping import FileShape
from pipeline.events.sources import read_table

PLAIN = FileShape()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def refusal_of(path: Path, shape: FileShape = PLAIN) -> str:
    with pytest.raises(UnreadableFile) as refused:
        read_table(path, shape)
    message = str(refused.value)
    assert str(path) in message
    return message


def test_a_missing_file_is_named(tmp_path):
    assert "does not exist" in refusal_of(tmp_path / "gone.csv")


def test_a_folder_is_not_a_file(tmp_path):
    assert "is a folder" in refusal_of(tmp_path)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_a_file_without_a_byte_is_called_empty(tmp_path, name):
    assert "empty (0 bytes)" in refusal_of(write(tmp_path / name, b""))


def test_an_unknown_ending_asks_for_the_format(tmp_path):
    assert "format" in refusal_of(write(tmp_path / "a.log", b"a,b\n1,2\n"))
    assert read_table(tmp_path / "a.log", FileShape(format="csv")).height == 1


def test_a_truncated_parquet_file_says_so(tmp_path):
    whole = tmp_path / "whole.parquet"
    pl.DataFrame({"a": range(1000)}).write_parquet(whole)
    cut = write(tmp_path / "cut.parquet", whole.read_bytes()[:-200])
    assert "truncated" in refusal_of(cut)


def test_a_damaged_parquet_file_says_so(tmp_path):
    assert "damaged" in refusal_of(write(tmp_path / "a.parquet", b"PAR1" + b"x" * 100 + b"PAR1"))


def test_something_else_with_a_parquet_ending_says_so(tmp_path):
    assert "not a Parquet file" in refusal_of(write(tmp_path / "a.parquet", b"user,item\n1,2\n"))


def test_a_truncated_json_line_is_named_by_its_number(tmp_path):
    path = write(tmp_path / "a.jsonl", b'{"a": 1}\n\n{"a": 2}\n{"a": ')
    assert "line 4" in refusal_of(path)


def test_a_json_line_that_is_no_object_is_named(tmp_path):
    assert "line 2: found list" in refusal_of(write(tmp_path / "a.jsonl", b'{"a": 1}\n[1]\n'))


def test_a_wrong_encoding_is_named_by_byte_and_line(tmp_path):
    path = write(tmp_path / "a.csv", "user,title\n1,ok\n2,Café\n".encode("cp1252"))
    message = refusal_of(path)
    assert "byte 0xe9 at offset 21 (line 3)" in message and "encoding: cp1252" in message
    assert read_table(path, FileShape(encoding="cp1252"))["title"].to_list() == ["ok", "Café"]


def test_utf_16_is_recognised(tmp_path):
    path = write(tmp_path / "a.csv", "user,item\n1,2\n".encode("utf-16"))
    assert "encoding: utf-16" in refusal_of(path)
    assert read_table(path, FileShape(encoding="utf-16")).columns == ["user", "item"]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    assert read_table(write(tmp_path / "a.csv", b"\xef\xbb\xbfuser,item\n1,2\n"), PLAIN).columns == ["user", "item"]


def test_a_csv_row_with_too_many_fields_is_named_by_its_line(tmp_path):
    assert "line 3 has 3 fields and the header 2" in refusal_of(write(tmp_path / "a.csv", b"a,b\n1,2\n1,2,3\n"))


def test_an_unclosed_quote_is_not_swallowed(tmp_path):
    refusal_of(write(tmp_path / "a.csv", b'a,b\n1,2\n"x,2\n3,4\n'))


def test_csv_and_json_lines_come_back_as_they_were_written(tmp_path):
    csv = read_table(write(tmp_path / "a.csv", b'id,t\n007,"a ""b"", c"\n,x\n'), PLAIN)
    assert csv.to_dict(as_series=False) == {"id": ["007", None], "t": ['a "b", c', "x"]}
    lines = [{"id": "007", "n": 1, "f": 0.1, "b": True, "l": ["x", "y"]}, {"id": None, "late": {"k": 1}}]
    path = write(tmp_path / "a.jsonl", "\n".join(json.dumps(line) for line in lines).encode())
    assert read_table(path, PLAIN).rows() == [
        ("007", "1", "0.1", "true", "x\x1fy", None),
        (None, None, None, None, None, '{"k": 1}'),
    ]


def test_a_line_separator_inside_a_json_text_does_not_cut_the_line(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"t": "a\u2028b"}\n'.encode())
    assert read_table(path, PLAIN)["t"].to_list() == ["a\u2028b"]


def test_a_nested_list_becomes_a_row_for_each_entry(tmp_path):
    records = [{"session": 1, "events": [{"aid": 5}, {"aid": 6}]}, {"session": 2, "events": []}]
    path = write(tmp_path / "a.jsonl", "\n".join(json.dumps(record) for record in records).encode())
    assert read_table(path, PLAIN, explode="events").rows() == [("1", "5"), ("1", "6")]
    pl.DataFrame(records[:1]).write_parquet(tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet", PLAIN, explode="events").rows() == [(1, 5), (1, 6)]
