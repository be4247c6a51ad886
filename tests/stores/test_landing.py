"""The landing folder: whole files only, and nothing that is not a day's data is read as such."""

import os
import shutil

import polars as pl

from pipeline.partitions import Day
from pipeline.stores.landing import Landing, load_name

DAY = Day.parse("2026-03-01")
ROWS = pl.DataFrame({"user_id": ["u"], "ingested_at": ["2026-03-02T00:00:00Z"]})


def test_a_file_that_says_the_same_is_not_written_again(tmp_path):
    landing = Landing(tmp_path)
    assert landing.put(DAY, "a", ROWS)
    assert not landing.put(DAY, "a", ROWS.with_columns(ingested_at=pl.lit("later")))
    assert landing.put(DAY, "a", ROWS.with_columns(user_id=pl.lit("v")))
    assert [file.name for file in landing.files(DAY)] == ["a.parquet"]


def test_a_file_that_is_being_written_is_not_data(tmp_path):
    landing = Landing(tmp_path)
    landing.put(DAY, "a", ROWS)
    for name in ("_b.parquet", ".c.parquet"):
        (landing.events / DAY.key / name).write_bytes(b"half")
    assert [file.name for file in landing.files(DAY)] == ["a.parquet"]


def test_an_empty_folder_is_no_delivery_and_a_marked_one_is(tmp_path):
    landing = Landing(tmp_path)
    (landing.events / DAY.key).mkdir(parents=True)
    assert landing.days() == []
    landing.say_empty(DAY, "shop", "closed on Sundays")
    assert landing.days() == [DAY] and landing.says_empty(DAY) and landing.files(DAY) == []


def test_taking_a_load_back_leaves_the_files_of_others(tmp_path):
    landing = Landing(tmp_path)
    landing.put(DAY, "a", ROWS)
    landing.put(DAY, "b", ROWS)
    landing.put(DAY.plus(1), "a", ROWS)
    landing.say_empty(DAY.plus(2), "a", "nothing")
    landing.say_empty(DAY.plus(3), "b", "nothing")
    assert landing.take_back("a", keep={DAY.plus(1)}) == 2
    assert landing.days() == [DAY, DAY.plus(1), DAY.plus(3)]
    assert [file.name for file in landing.files(DAY)] == ["b.parquet"]
    assert [file.name for file in landing.files(DAY.plus(1))] == ["a.parquet"]


def test_a_load_is_named_by_its_content_and_never_like_a_hidden_file(tmp_path):
    one, two = tmp_path / "__a b?.csv", tmp_path / "sub.csv"
    one.write_bytes(b"x")
    two.write_bytes(b"x")
    assert load_name(one).startswith("a_b_-")
    assert load_name(one)[-8:] == load_name(two)[-8:]
    two.write_bytes(b"y")
    assert load_name(one)[-8:] != load_name(two)[-8:]


def test_a_day_is_the_same_while_its_files_hold_the_same_whenever_they_came(tmp_path):
    landing = Landing(tmp_path)
    landing.put(DAY, "a", ROWS)
    file = landing.files(DAY)[0]
    first = landing.fingerprint(DAY, remember=True)
    shutil.copy(file, tmp_path / "copy")
    os.utime(tmp_path / "copy", (0, 0))
    shutil.move(tmp_path / "copy", file)
    assert landing.fingerprint(DAY) == first
    landing.put(DAY, "b", ROWS)
    assert landing.fingerprint(DAY) != first


def test_a_file_that_is_rewritten_in_its_length_and_at_its_time_is_another(tmp_path):
    landing = Landing(tmp_path)
    place = landing.events / DAY.key / "a.csv"
    place.parent.mkdir(parents=True)
    place.write_text("user_id\nu1\n")
    before, told = landing.fingerprint(DAY, remember=True), place.stat()
    place.write_text("user_id\nu2\n")
    os.utime(place, ns=(told.st_atime_ns, told.st_mtime_ns))
    assert (place.stat().st_size, place.stat().st_mtime_ns) == (told.st_size, told.st_mtime_ns)
    assert landing.fingerprint(DAY) != before


def test_an_erasure_makes_no_other_day_of_it(tmp_path):
    landing = Landing(tmp_path)
    landing.put(DAY, "a", pl.concat([ROWS, ROWS.with_columns(user_id=pl.lit("gone"))]))
    landing.put(DAY, "b", ROWS.with_columns(user_id=pl.lit("gone")))
    delivered = landing.fingerprint(DAY)
    for file in landing.files(DAY):
        users = pl.read_parquet(file)["user_id"]
        landing.rewrite_users(DAY, file, users, users != "gone")
    assert [file.name for file in landing.files(DAY)] == ["a.parquet"]
    assert landing.fingerprint(DAY) == delivered
    landing.put(DAY, "a", ROWS.with_columns(user_id=pl.lit("new")))
    assert landing.fingerprint(DAY) != delivered
