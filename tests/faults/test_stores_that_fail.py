"""A full disk, a commit that never came, a backfill beside a run, an online store that is away, slow or emptied."""

import random
import shutil
import socket
import sqlite3
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.contracts import BEHAVIOR_EVENTS, SEQUENCE_FEATURES
from pipeline.stores.tables import Lake

pytestmark = [pytest.mark.faults_long, pytest.mark.timeout(900)]


@pytest.mark.fault("kill -9 between the data files and the commit")
def test_files_without_their_commit_are_seen_by_nobody(world, clean, days):
    lake = Lake(world.settings.lake_url)
    before = lake.rows_by_day(BEHAVIOR_EVENTS)
    assert world.run("publish_events", days[2], fault="publish.after_commit:kill:2").code == -9
    log = sorted((world.settings.place("lake") / BEHAVIOR_EVENTS.name / "_delta_log").glob("*.json"))
    log[-1].unlink()  # What such a crash leaves: the files lie there, the commit does not.
    assert list((world.settings.place("lake") / BEHAVIOR_EVENTS.name).rglob(f"*{days[2]}*/*.parquet"))

    assert lake.rows_by_day(BEHAVIOR_EVENTS) == before
    world.run_days(days[2:]).well()
    world.must_be(clean)


def must_fail_and_be_run_again(world, clean, days, **limits):
    lake = Lake(world.settings.lake_url)
    before = lake.rows_by_day(BEHAVIOR_EVENTS), lake.version(BEHAVIOR_EVENTS)
    ended = world.run("publish_events", days[2], **limits)
    assert ended.code == 1, "it cannot be written"
    assert (lake.rows_by_day(BEHAVIOR_EVENTS), lake.version(BEHAVIOR_EVENTS)) == before, "the old state stands"
    return ended


@pytest.mark.fault("a file that may not grow at the write of a partition")
def test_a_limit_on_files_leaves_the_old_day(world, clean, days, collector):
    chance = random.Random(3)
    rows = [collector.event(days[2], n % 100, event_id=chance.randbytes(60).hex()) for n in range(20_000)]
    file = collector.deliver(world.settings, days[2], rows, "large.parquet")
    must_fail_and_be_run_again(world, clean, days, file_size=300_000)
    file.unlink()
    world.run_days(days[2:]).well()
    world.must_be(clean)


@pytest.mark.fault("disk full at the write of a partition")
def test_a_full_disk_leaves_the_old_day(world, clean, days, tmp_path):
    disk, lake = tmp_path / "disk", world.settings.place("lake")
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small disk is not allowed here")
    try:
        shutil.copytree(lake, disk / "lake")
        shutil.rmtree(lake)
        lake.symlink_to(disk / "lake")
        with (disk / "filler").open("wb", buffering=0) as filler:
            try:
                while filler.write(b"0" * 4096):
                    pass
            except OSError:
                pass
        must_fail_and_be_run_again(world, clean, days)
        (disk / "filler").unlink()
        world.run_days(days[2:]).well()
        world.must_be(clean)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


@pytest.mark.fault("a backfill while the daily run publishes; a reader sees no served time go back")
def test_a_backfill_beside_the_daily_run_moves_nothing_back(world, clean, days, collector):
    from pipeline.stores.served_rows import served_rows

    seen: dict[str, list] = {user: [] for user in collector.users}
    over = threading.Event()

    def read():
        while not over.is_set():
            rows = served_rows(world.settings, SEQUENCE_FEATURES, collector.users)
            for user, moment in rows.select("user_id", "event_timestamp").iter_rows():
                seen[user].append(moment)
            time.sleep(0.02)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        slow = "push.before_batch:sleep:0.4"
        backfill = world.asked_days([days[1], days[0]], fault=slow)
        daily = world.asked_days(days[2:], fault=slow)
        ended = world.processes.at_once(backfill, daily)
    finally:
        over.set()
        reader.join()
    assert [one.code for one in ended] == [0, 0], ended
    assert all(len(moments) > 3 and moments == sorted(moments) for moments in seen.values())
    assert any(len(set(moments)) > 1 for moments in seen.values()), "nothing moved while it was read"
    world.must_be(clean)


@pytest.mark.fault("online store down at the push")
def test_a_push_to_a_store_that_is_away_is_worth_a_retry(world, clean, days):
    world.run("publish_events", days[2]).well()
    world.run("build_features", days[2]).well()
    store = world.settings.online_path
    aside = store.with_name("aside")
    store.rename(aside)
    store.mkdir()
    ended = world.run("push_features", days[2])
    assert (ended.code, ended.error) == (1, "EngineFailure")
    shutil.rmtree(store)
    aside.rename(store)
    world.run_days(days[2:]).well()
    world.must_be(clean)


@contextmanager
def redis_at(port: int, folder: Path):
    """A Redis server that keeps nothing when it ends."""
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(folder)]
    with subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL) as server:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        try:
            yield server
        finally:
            server.kill()


@pytest.mark.fault("online store down: Redis is killed, comes back empty and is filled again")
@pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs redis-server")
def test_a_redis_that_was_killed_fails_the_push_and_is_filled_again(world, clean, days, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    world.given = {"online": {"type": "redis", "url": f"127.0.0.1:{port}"}}
    with redis_at(port, tmp_path):
        world.run("apply_definitions").well()
        world.run("rebuild_online", days[1]).well()
    ended = world.run_days([days[2]])
    assert (ended.code, ended.error) == (1, "EngineFailure"), ended.says
    answer = world.run("look_up", "u1", "support_profile_v1", world.clock)
    assert (answer.code, answer.error) == (1, "EngineFailure"), answer.says
    with redis_at(port, tmp_path):
        world.run("rebuild_online", days[2]).well()
        world.run_days(days[2:]).well()
        world.must_be(clean)


@pytest.mark.fault("online store slow at the push")
def test_a_push_waits_for_a_store_that_is_busy(world, clean, days):
    world.run("publish_events", days[2]).well()
    world.run("build_features", days[2]).well()
    busy = sqlite3.connect(world.settings.online_path, isolation_level=None)
    busy.execute("BEGIN IMMEDIATE")
    world.processes.begin(world.asked("push_features", days[2]))
    time.sleep(5)
    busy.execute("COMMIT")
    busy.close()
    world.processes.end()[0].well()
    world.run_days([days[3]]).well()
    world.must_be(clean)


@pytest.mark.fault("concurrent feast apply")
def test_of_processes_that_apply_at_once_one_writes(clean_world, clean, days):
    world = clean_world
    registry = world.settings.place("feast/registry.db")
    assert registry.is_file()
    registry.unlink()
    ended = world.processes.at_once(*[world.asked("apply_definitions") for _ in range(4)])
    assert sorted(one.well() for one in ended) == [False, False, False, True]
    world.must_be(clean)


@pytest.mark.fault("online store emptied")
def test_an_emptied_store_is_filled_again(clean_world, clean, days):
    for file in clean_world.settings.online_path.parent.glob(f"{clean_world.settings.online_path.name}*"):
        file.unlink()
    clean_world.run("rebuild_online", days[-1]).well()
    clean_world.must_be(clean)


@pytest.mark.fault("kill -9 in an erasure, then a backfill")
@pytest.mark.parametrize(
    "fault",
    [
        "erase.after_place:kill:1",
        *[pytest.param(f"erase.{p}:kill:{n}") for p in ("before_place", "after_place")
          for n in (3, 6, 9)],
    ],
)
def test_an_erasure_that_was_killed_goes_on_and_a_backfill_brings_nobody_back(clean_world, days, fault):
    world = clean_world
    assert world.run("forget_user", "u1", "asked", fault=fault).code == -9
    receipt = world.run("forget_user", "u1", "asked").well()
    assert receipt["verified_at"] and not any(place["remaining"] for place in receipt["places"])
    erased = world.hash()
    assert "u1" not in Lake(world.settings.lake_url).scan(SEQUENCE_FEATURES).collect()["user_id"]
    world.run_days(days).well()
    world.must_be(erased)
