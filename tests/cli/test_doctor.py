import gc
import os
import shutil
import socket
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from pipeline.contracts import BEHAVIOR_EVENTS
from pipeline.stack import processes
from pipeline.stack.secrets import write_private
from pipeline.stores.ledger import Ledger, PartitionRecord

PRODUCTION = Path(__file__).parents[2] / "infra" / "production.toml"


def test_a_home_in_order_is_healthy(filled, interest):
    answer = interest("doctor", "--json")

    wrong = [f for f in answer.json["findings"] if f["severity"] == "error"]
    assert wrong == []
    assert (answer.code, answer.json["healthy"]) == (0, True)
    assert "agrees with the tables" in answer.found("ledger")["found"]
    assert answer.found("table behavior_events")["severity"] == "ok"


def test_a_home_that_does_not_exist_yet_is_no_error(interest, settings):
    shutil.rmtree(settings.home)

    answer = interest("doctor")

    assert answer.code == 0
    assert "healthy" in answer.out


def test_every_finding_that_is_not_ok_says_what_was_found_what_was_expected_and_what_to_do(filled, settings, interest):
    (settings.place("run")).mkdir()
    (settings.place("run") / "scheduler.pid").write_text('{"pid": 999999999, "started": 1.0}')

    answer = interest("doctor", "--json")

    bad = [f for f in answer.json["findings"] if f["severity"] != "ok"]
    assert bad
    assert all(f["found"] and f["expected"] and f["remedy"] for f in bad)
    assert "scheduler.pid" in answer.found("processes")["found"]
    assert answer.code == 0, "a warning is no error"


def test_a_secret_that_others_can_read_is_an_error(filled, settings, interest):
    file = settings.place("airflow/secrets.json")
    write_private(file, "{}")
    assert interest("doctor", "--json").found("secrets")["severity"] == "ok"
    file.chmod(0o644)

    answer = interest("doctor", "--json")

    assert answer.code == 1
    found = answer.found("mode of secrets.json")
    assert (found["found"], found["expected"]) == ("644", "600")
    assert "chmod 600" in found["remedy"]


def test_a_taken_port_is_an_error_that_names_the_setting(filled, settings, interest, monkeypatch):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        monkeypatch.setenv("INTEREST_AIRFLOW__PORT", str(port))

        answer = interest("doctor", "--json")

    assert answer.code == 1
    assert "airflow.port" in answer.found(f"port {port}")["remedy"]


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_port_that_is_held_by_the_stack_of_this_home_is_no_error(filled, settings, interest, monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("INTEREST_PORTS__FEAST", str(port))
    server = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    processes.start(settings, processes.Service("feast", server), dict(os.environ))
    try:
        assert processes.wait_until(lambda: answers(port), 20)

        answer = interest("doctor", "--json")
        refused = interest("doctor", "--repair")
    finally:
        processes.stop(settings)

    assert answer.found(f"port {port}")["found"] == "ports.feast: held by this home's stack"
    assert answer.found("processes")["found"] == "1 of this home are running"
    assert (answer.code, refused.code) == (0, 2)
    assert "interest down" in refused.err


def test_a_table_that_is_gone_is_an_error_with_the_days_to_run_again(filled, interest):
    shutil.rmtree(filled.path(BEHAVIOR_EVENTS))

    answer = interest("doctor", "--json")

    assert answer.code == 1
    found = answer.found("ledger")
    assert "behavior_events 2026-01-21: ledger published, 30 rows, table 0 rows" in found["found"]
    assert "interest backfill" in found["remedy"]


def test_a_table_with_other_columns_than_its_contract_is_an_error(filled, interest):
    from deltalake import write_deltalake

    path = filled.path(BEHAVIOR_EVENTS)
    frame = pl.read_delta(path).with_columns(pl.col("value").cast(pl.String), extra=pl.lit(1))
    write_deltalake(path, frame.to_arrow(), mode="overwrite", schema_mode="overwrite", partition_by=["event_date"])

    answer = interest("doctor", "--json")

    assert answer.code == 1
    found = answer.found("table behavior_events")["found"]
    assert "value: String, contract Float64" in found
    assert "extra: not in the contract" in found


def test_a_damaged_table_is_named(filled, interest):
    for file in Path(filled.path(BEHAVIOR_EVENTS), "_delta_log").glob("*.json"):
        file.write_text("{ not json")

    answer = interest("doctor", "--json")

    assert answer.code == 1
    assert "behavior_events" in answer.found("table behavior_events")["check"]


def lines(settings) -> list[PartitionRecord]:
    ledger = Ledger(settings.ledger_url)
    found = ledger.partitions()
    ledger.engine.dispose()
    return found


@pytest.mark.parametrize("damage", ["deleted", "overwritten", "emptied", "truncated"])
def test_a_ledger_rebuilt_from_the_tables_equals_the_one_before(filled, ledger, settings, interest, damage):
    before = lines(settings)
    ledger.engine.dispose()
    gc.collect()  # No connection of an earlier command may hold the old file.
    file = settings.place("ledger.db")
    for ending in ("-wal", "-shm"):
        Path(f"{file}{ending}").unlink(missing_ok=True)
    if damage == "deleted":
        file.unlink()
    elif damage == "overwritten":
        file.write_bytes(b"this is no database" * 1000)
    elif damage == "emptied":
        file.write_bytes(b"")
    else:
        file.write_bytes(file.read_bytes()[:5000])
    sick = interest("doctor", "--json")
    assert sick.code == 1
    assert "--repair" in sick.found("ledger")["remedy"]

    healed = interest("doctor", "--repair", "--json")

    assert healed.code == 0, healed.out
    assert any("rebuilt the ledger: 18 partitions, 0 promotions" in done for done in healed.json["repaired"])
    assert lines(settings) == before
    assert interest("doctor", "--repair", "--json").json["repaired"] == []


def test_a_repair_keeps_what_only_the_ledger_knows(filled, ledger, settings, interest):
    failed = ledger.partition("behavior_events", "2026-03-01").model_copy(
        update={"partition": "2026-03-02", "state": "failed", "counts": {}, "details": {"failures": ["too few"]}}
    )
    ledger.record_partition(failed)
    gone = ledger.partition("behavior_events", "2026-02-28")
    ledger.record_partition(gone.model_copy(update={"counts": {"published": 1}}))
    assert interest("doctor").code == 1

    assert interest("doctor", "--repair").code == 0

    assert ledger.partition("behavior_events", "2026-03-02") == failed
    assert ledger.partition("behavior_events", "2026-02-28") == gone


def test_a_commit_without_a_note_is_counted_and_said_so(filled, ledger, settings, interest):
    from pipeline.partitions import Day

    day = Day.parse("2026-03-02")
    filled.replace(BEHAVIOR_EVENTS, day, filled.read(BEHAVIOR_EVENTS, day.plus(-1)).head(3))

    answer = interest("doctor", "--repair", "--json")

    assert "1 of them counted from the rows" in answer.json["repaired"][0]
    record = ledger.partition("behavior_events", "2026-03-02")
    assert (record.state, record.counts, record.version) == (
        "published",
        {"published": 3},
        filled.version(BEHAVIOR_EVENTS),
    )
    assert "rebuilt" in record.details["warnings"][0]


def test_leftovers_are_named_and_removed_only_by_a_repair(filled, settings, interest):
    old, young = settings.place("reports/.report.html.1.tmp"), settings.place("reports/.report.html.2.tmp")
    old.parent.mkdir()
    for file in (old, young):
        file.write_text("half")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    assert ".report.html.1.tmp" in interest("doctor", "--json").found("leftovers")["found"]
    assert old.exists()

    interest("doctor", "--repair")

    assert (old.exists(), young.exists()) == (False, True)


def test_the_production_file_is_accepted(interest):
    answer = interest("doctor", "--settings", str(PRODUCTION), "--json")

    assert answer.code == 0, [f for f in answer.json["findings"] if f["severity"] != "ok"]
    assert all(finding["severity"] == "ok" for finding in answer.json["findings"])


@pytest.mark.parametrize(
    ("was", "now", "check", "said"),
    [
        ("scheduled = true", "scheduled = false", "airflow.scheduled", "false"),
        ('check = "oidc"', 'check = "off"', "access.check", "whoever reaches the port"),
        ("https://id.internal/realms/platform/.well", "http://id.internal/.well", "access.discovery_url", "not https"),
        ("audience = ", "# audience = ", "access", "audience not set"),
        ('profile = "production"', 'profile = "embedded"', "profile", "embedded"),
        ('profile = "production"', 'profle = "production"', "settings", "`profle`"),
        ("parallelism = 32", 'parallelism = "many"', "settings", "`airflow.parallelism`"),
        ("[online]", "[online", "settings", "not valid TOML"),
        ("ledger = ", "# ledger = ", "stores.ledger", "not set"),
        (
            "postgresql+psycopg://interest@postgres.internal:5432/interest_ledger",
            "sqlite:////tmp/x.db",
            "stores.ledger",
            "a sqlite database",
        ),
        ("postgres.internal:5432/interest_feast", "/interest_feast", "stores.feast_registry", "without a host"),
        ("s3://interest-lake/tables", "/data/lake", "stores.lake", "not an object store"),
        ('aws_conditional_put = "etag"', "", "stores.storage_options", "neither"),
        ('aws_conditional_put = "etag"', 'AWS_S3_ALLOW_UNSAFE_RENAME = "true"', "stores.storage_options", "unsafe"),
        ('type = "redis"', 'type = "sqlite"', "online.type", "sqlite"),
        ('url = "redis.internal:6379,ssl=true"', 'url = "redis://redis.internal"', "online.url", "not an address"),
        ('CeleryExecutor"', 'LocalExecutor"', "airflow.executor", "LocalExecutor"),
        ("broker = ", "# broker = ", "airflow.broker", "not set"),
        ("interest@postgres", "interest:hunter2@postgres", "secrets", "stores.ledger"),
        ("ssl=true", "ssl=true,password=hunter2", "secrets", "online.url"),
        ('aws_region = "eu-central-1"', 'AWS_SECRET_ACCESS_KEY = "hunter2"', "secrets", "AWS_SECRET_ACCESS_KEY"),
        ("log_json = true", 'secret = "hunter2"\nlog_json = true', "secrets", "secret"),
        ('home = "/var/lib/interest"', 'home = "interest"', "home", "interest"),
        ('landing = "/mnt/interest/landing"', 'landing = "s3://x/landing"', "stores.landing", "s3://x/landing"),
    ],
)
def test_a_file_unfit_for_production_is_refused_with_a_clear_message(interest, tmp_path, was, now, check, said):
    text = PRODUCTION.read_text(encoding="utf-8")
    assert was in text
    file = tmp_path / "production.toml"
    file.write_text(text.replace(was, now), encoding="utf-8")

    answer = interest("doctor", "--settings", str(file), "--json")

    assert (answer.code, answer.json["healthy"]) == (1, False)
    assert said in answer.found(check)["found"]
    assert "hunter2" not in answer.out + answer.err


def test_the_environment_has_no_say_about_a_file(interest, monkeypatch):
    monkeypatch.setenv("INTEREST_PROFILE", "embedded")
    monkeypatch.setenv("INTEREST_STORES__LAKE", "/elsewhere")

    assert interest("doctor", "--settings", str(PRODUCTION)).code == 0


def test_a_file_that_is_not_there_and_a_repair_of_a_file_are_mistakes(interest, tmp_path):
    missing = interest("doctor", "--settings", str(tmp_path / "none.toml"))
    repaired = interest("doctor", "--settings", str(PRODUCTION), "--repair")

    assert (missing.code, repaired.code) == (2, 2)
    assert "does not exist" in missing.err
    assert len(missing.err.splitlines()) == len(repaired.err.splitlines()) == 1
