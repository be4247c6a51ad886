import json
import pickle
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

from pipeline.errors import EngineFailure, NotFound, UnsafeModel, UserMistake
from pipeline.faults import arm
from pipeline.settings import Stores
from pipeline.stores import promotions, registration
from pipeline.stores.ledger import Ledger
from pipeline.stores.model_versions import Card, Dataset, Version
from pipeline.stores.registry import CHALLENGER, CHAMPION, Registry

MODEL = "interest_evolution"
FIRST_CUTOFF = datetime(1998, 4, 6, tzinfo=UTC)


def saved_model(folder: Path, value: float = 1.0) -> Path:
    folder.mkdir(parents=True)
    save_file({"weight": np.full(4, value, dtype=np.float32)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"size": 4}))
    return folder


def card(cutoff: datetime = FIRST_CUTOFF, **changes) -> Card:
    example = pl.DataFrame({"user_id": ["u1"], "item_ids": [["a", "b"]], "event_times": [[1, 2]]})
    answer = pl.DataFrame({"user_id": ["u1"], "vector": [[0.6, 0.8]]}, schema_overrides={"vector": pl.List(pl.Float32)})
    facts = {
        "model_cutoff": cutoff,
        "trained_until": cutoff - timedelta(days=14),
        "space_id": f"interest@{cutoff:%Y-%m-%d}",
        "loader": "pipeline.serving.registered_model",
        "example": example,
        "answer": answer,
        "lineage": {"delta.behavior_events": "3", "seed": "7"},
        "params": {"dim": 64},
        "metrics": {"ndcg@10": 0.25, "recall@50": float("nan")},
        "curves": {"loss": [3.0, 2.0]},
        "datasets": [Dataset("behavior_events", pl.DataFrame({"user_id": ["u1"]}), "/lake/behavior_events", 3)],
    }
    return Card(**{**facts, **changes})


@pytest.fixture
def register(registry: Registry, tmp_path: Path):
    def register(week: int, value: float = 1.0) -> Version:
        cutoff = FIRST_CUTOFF + timedelta(weeks=week)
        folder = saved_model(tmp_path / f"model{week}-{value}", value)
        return registration.register(registry, MODEL, f"{MODEL}@{cutoff:%Y-%m-%d}", folder, card(cutoff))

    return register


def test_a_version_carries_its_lineage_metrics_data_set_and_signature(registry, register):
    version = register(0)
    run = registry.mlflow.client.get_run(version.run_id)
    assert (version.number, version.status) == (1, "candidate")
    assert isinstance(version.number, int)
    assert version.tags["delta.behavior_events"] == "3"
    assert run.data.metrics == {"ndcg_at_10": 0.25, "loss": 2.0}
    assert run.data.params == {"dim": "64"}
    assert [(given.dataset.name, given.dataset.digest) for given in run.inputs.dataset_inputs] == [
        ("behavior_events", "v3")
    ]
    beside_the_weights = registry.fetch(version).parent.parent
    assert "item_ids" in (beside_the_weights / "MLmodel").read_text()
    assert (beside_the_weights / "input_example.json").is_file()


def test_nothing_is_written_into_the_working_directory(registry, register, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "home")
    register(0)
    assert not (Path.cwd() / "mlruns").exists()


def test_registering_a_run_key_twice_gives_one_version(registry, register):
    assert register(0) == register(0, value=2.0)
    assert len(registry.versions(MODEL)) == 1
    assert register(1).number == 2


def test_a_crash_between_logging_and_registering_gives_one_version(registry, register, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(type(registry.mlflow.client), "create_model_version", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            register(0)
    assert registry.versions(MODEL) == []
    saved = registry.mlflow.client.search_logged_models([registry.mlflow.experiment(MODEL)])
    folder = next(registry.settings.home.parent.glob("model0*"))
    version = registration.register(registry, MODEL, f"{MODEL}@1998-04-06", folder, card())
    assert version.number == 1
    assert len(registry.mlflow.client.search_logged_models([registry.mlflow.experiment(MODEL)])) == len(saved) == 1


def test_attempts_at_the_same_time_give_one_version(registry, settings, tmp_path):
    folders = [saved_model(tmp_path / f"attempt{attempt}") for attempt in range(3)]
    with ThreadPoolExecutor(3) as pool:
        key = "key@1998-04-06"
        attempts = [
            pool.submit(registration.register, Registry(settings), MODEL, key, folder, card()) for folder in folders
        ]
        versions = [attempt.result() for attempt in attempts]
    assert {version.number for version in versions} == {1}
    assert len(registry.mlflow.client.search_model_versions(f"name = '{MODEL}'")) == 1


def test_versions_that_two_machines_made_at_once_are_settled_to_the_first(registry, register):
    version = register(0)
    source = registry.mlflow.client.get_model_version(MODEL, "1").source
    registry.mlflow.client.create_model_version(MODEL, source, tags=version.tags)
    assert [found.number for found in registry.versions(MODEL)] == [1]
    assert registration.settle(registry, MODEL, version.run_key, 2) == version
    assert len(registry.mlflow.client.search_model_versions(f"name = '{MODEL}'")) == 1


def test_a_fetched_model_is_the_one_that_was_registered(registry, register):
    folder = registry.fetch(register(0))
    assert (folder / "model.safetensors").is_file()
    assert not [path for path in folder.parent.parent.rglob("*") if path.suffix in (".pkl", ".pickle", ".pt", ".py")]


def test_a_pickle_is_not_registered(registry, tmp_path):
    folder = saved_model(tmp_path / "model")
    (folder / "optimizer.pkl").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(UnsafeModel, match=r"optimizer\.pkl"):
        registration.register(registry, MODEL, "key", folder, card())
    assert registry.versions(MODEL) == []


@pytest.fixture
def away(settings, monkeypatch) -> str:
    """The address of an MLflow server that has gone: a port that was just free."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.fault("MLflow's server is away: worth a retry")
def test_a_server_that_is_away_is_worth_a_retry_and_a_refusal_is_not(settings, registry, register, away, tmp_path):
    version = register(0)
    gone = Registry(settings.model_copy(update={"stores": Stores(mlflow=away)}))
    folder = saved_model(tmp_path / "kept")
    for ask in (
        lambda: gone.versions(MODEL),
        lambda: registration.register(gone, MODEL, "key", folder, card()),
        lambda: promotions.promote(gone, version, ["good"], "tests", FIRST_CUTOFF),
    ):
        with pytest.raises(EngineFailure, match="did not answer"):
            ask()
    gone.mlflow.__dict__["client"] = registry.mlflow.client.__class__(tracking_uri=away, registry_uri=away)
    with pytest.raises(EngineFailure, match="kept under its run key"):
        registration.register(gone, MODEL, "key", folder, card())
    assert folder.is_dir()
    assert registration.register(registry, MODEL, "key", folder, card()).number == version.number + 1


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, sprung: Path):
        self.sprung = sprung

    def __reduce__(self):
        return Path.touch, (self.sprung,)


@pytest.mark.fault("a pickle in place of weights")
@pytest.mark.parametrize("name", ["model.safetensors", "model.pkl"])
def test_a_pickle_that_was_slipped_in_later_is_not_loaded(registry, register, tmp_path, name):
    version = register(0)
    (registry.fetch(version) / name).write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(UnsafeModel, match=name):
        registry.fetch(version)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.fault("a weight file with one byte flipped")
def test_a_flipped_byte_is_refused(registry, register):
    version = register(0)
    weights = registry.fetch(version) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UnsafeModel, match="has changed since it was registered"):
        registry.fetch(version)


def test_a_file_exchanged_together_with_its_manifest_is_refused(registry, register):
    from pipeline.stores.model_files import write_manifest

    version = register(0)
    folder = registry.fetch(version)
    (folder / "config.json").write_text("{}")
    write_manifest(folder)
    with pytest.raises(UnsafeModel, match="not the manifest that was registered"):
        registry.fetch(version)


def test_a_file_that_went_missing_is_refused(registry, register):
    version = register(0)
    (registry.fetch(version) / "config.json").unlink()
    with pytest.raises(UnsafeModel, match=r"disagree about config\.json"):
        registry.fetch(version)


def test_a_link_in_a_model_is_refused(registry, tmp_path):
    folder = saved_model(tmp_path / "model")
    (folder / "more.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(UnsafeModel, match="is a link"):
        registration.register(registry, MODEL, "key", folder, card())


def test_the_challenger_is_the_candidate_with_the_newest_cutoff(registry, register):
    newest = register(1)
    register(0)
    assert registry.aliased(MODEL, CHALLENGER) == newest
    assert registry.aliased(MODEL, CHAMPION) is None


def test_a_held_model_does_not_move_the_champion(registry, register, known_at):
    promoted = promotions.promote(registry, register(0), ["better"], "gate", known_at)
    held = promotions.hold(registry, register(1), ["worse on `heavy`"], "gate", known_at)
    assert (held.status, held.reasons) == ("held", ("worse on `heavy`",))
    assert registry.champion(MODEL) == registry.aliased(MODEL, CHAMPION) == promoted


def test_a_backtest_never_takes_an_alias(registry, register, known_at, tmp_path):
    champion = promotions.promote(registry, register(0), ["better"], "gate", known_at)
    cutoff = FIRST_CUTOFF + timedelta(weeks=1)
    facts = card(cutoff, lineage={"backtest": "true"})
    backtest = registration.register(registry, MODEL, f"{MODEL}@x.backtest", saved_model(tmp_path / "backtest"), facts)
    assert registry.aliased(MODEL, CHALLENGER) == registry.aliased(MODEL, CHAMPION) == champion
    with pytest.raises(UserMistake, match="is a backtest"):
        promotions.promote(registry, backtest, ["better"], "somebody", known_at)
    assert registry.version(MODEL, backtest.number).status == "candidate"
    assert registry.champion(MODEL) == registry.aliased(MODEL, CHAMPION) == champion


def test_an_alias_only_moves_to_a_newer_cutoff(registry, register, known_at):
    newest = promotions.promote(registry, register(1), ["better"], "gate", known_at)
    older = promotions.promote(registry, register(0), ["better"], "gate", known_at)
    assert registry.aliased(MODEL, CHAMPION) == newest
    assert registry.champion(MODEL, FIRST_CUTOFF) == older


def test_a_day_is_served_by_the_newest_promoted_version_whose_cutoff_is_not_after_it(registry, register, known_at):
    first, second, third = (register(week) for week in range(3))
    promotions.promote(registry, first, ["first"], "gate", known_at)
    promotions.hold(registry, second, ["worse"], "gate", known_at)
    promotions.promote(registry, third, ["better"], "gate", known_at)
    a_moment = timedelta(microseconds=1)
    numbers = [
        found.number if (found := registry.champion(MODEL, at)) else None
        for at in (
            first.model_cutoff - a_moment,
            first.model_cutoff,
            second.model_cutoff,
            third.model_cutoff - a_moment,
            third.model_cutoff,
        )
    ]
    assert numbers == [None, first.number, first.number, first.number, third.number]


def test_every_decision_is_recorded_with_who_when_from_to_and_why(registry, register, settings, known_at):
    promotions.promote(registry, register(0), ["no champion yet"], "gate", known_at)
    promotions.promote(registry, register(1), ["better", "newer"], "someone", known_at + timedelta(hours=1))
    first, second = Ledger(settings.ledger_url).promotions(MODEL)
    assert (first.from_version, first.to_version, first.reasons) == (None, 1, ["no champion yet"])
    assert (second.from_version, second.to_version, second.decided_by) == (1, 2, "someone")
    assert second.decided_at == known_at + timedelta(hours=1)


def test_deciding_twice_changes_nothing(registry, register, settings, known_at):
    version = promotions.promote(registry, register(0), ["first"], "gate", known_at)
    decisions = Ledger(settings.ledger_url).promotions(MODEL)
    assert promotions.promote(registry, version, ["again"], "another", known_at + timedelta(days=1)) == version
    assert Ledger(settings.ledger_url).promotions(MODEL) == decisions


def test_a_version_that_does_not_exist_is_not_found(registry):
    with pytest.raises(NotFound, match="has no version 9"):
        registry.version(MODEL, 9)


def test_constructing_a_registry_imports_no_mlflow():
    code = (
        "import sys; from pipeline.settings import Settings; from pipeline.stores.registry import Registry;"
        "Registry(Settings(home='/tmp')); sys.exit('mlflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


def test_a_registration_that_was_killed_before_its_alias_moved_is_finished_by_the_next(registry, register):
    first = register(0)
    arm("register.before_alias:raise")
    try:
        with pytest.raises(EngineFailure):
            register(1)
    finally:
        arm("")
    assert registry.aliased(MODEL, CHALLENGER) == first
    second = registration.registered(registry, MODEL, registry.versions(MODEL)[-1].run_key)
    assert registry.aliased(MODEL, CHALLENGER) == second != first
