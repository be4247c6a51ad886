"""kill -9 and failures between training, log, register and alias: the same calls again give one version, the same."""

import os
import signal
import socket
import sqlite3
import time
from contextlib import closing
from datetime import timedelta

import pytest

MODEL = "interest_evolution"
pytestmark = [pytest.mark.faults_long, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def as_of(planted_home):
    from pipeline.contracts import BEHAVIOR_EVENTS
    from pipeline.settings import Settings
    from pipeline.stores.tables import Lake

    lake = Lake(Settings.load(home=planted_home).lake_url)
    return lake.days(BEHAVIOR_EVENTS)[0].start + timedelta(weeks=7)


@pytest.fixture(scope="module")
def trained(model_homes, as_of):
    """The hash of the registry after a training that nothing disturbed; `trained` is kept on the way."""
    world = model_homes.put_back("planted")
    ended = world.run("train_interest_model", as_of, fault="register.before_log:raise")
    assert (ended.code, ended.error) == (1, "EngineFailure"), "MLflow is down at registration"
    model_homes.keep("trained", world)
    world.run("train_interest_model", as_of).well()
    assert world.run("gate_interest_model", as_of).well()["promoted"]
    model_homes.keep("promoted", world)
    return world.hash()


def versions(world):
    from pipeline.stores.registered import registered_versions

    return registered_versions(world.settings, [MODEL])


def metrics(world) -> dict[str, float]:
    """What was measured of the one version, but for how long it took."""
    (entry,) = versions(world)
    with closing(sqlite3.connect(world.settings.place("mlflow/mlflow.db"))) as database:
        asked = "SELECT key, value FROM latest_metrics WHERE run_uuid = ?"
        measured = dict(database.execute(asked, (entry.version.run_id,)))
    assert measured
    return {name: value for name, value in measured.items() if "second" not in name}


CRASHES = {
    "MLflow down at registration": ("train_interest_model", "register.before_log:raise"),
    "kill -9 between training and log": ("train_interest_model", "register.before_log:kill"),
    "kill -9 between log and register": ("train_interest_model", "register.before_version:kill"),
    "kill -9 between register and alias": ("train_interest_model", "register.before_alias:kill"),
    "kill -9 before the decision is written": ("gate_interest_model", "promote.before_status:kill"),
    "kill -9 between promotion and alias": ("gate_interest_model", "promote.before_alias:kill"),
    "kill -9 between alias and ledger": ("gate_interest_model", "promote.before_ledger:kill"),
}


@pytest.mark.parametrize(
    ("step", "fault"),
    [pytest.param(*crash, id=name, marks=pytest.mark.fault(name)) for name, crash in CRASHES.items()],
)
def test_what_is_run_again_registers_one_version_and_promotes_it_once(model_homes, trained, as_of, step, fault):
    world = model_homes.put_back("trained")
    if step == "gate_interest_model":
        world.run("train_interest_model", as_of).well()

    ended = world.run(step, as_of, fault=fault)

    assert ended.code == (1 if ":raise" in fault else -signal.SIGKILL)
    if fault.startswith("register.before_log"):
        run = next(world.settings.place("models").glob("*@*"))
        assert (run / "model").is_dir() and versions(world) == [], "the trained model waits with its run key"
    world.run("train_interest_model", as_of).well()
    assert world.run("gate_interest_model", as_of).well()["promoted"]
    (entry,) = versions(world)
    assert (entry.version.status, "champion" in entry.aliases) == ("promoted", True)
    world.must_be(trained)


@pytest.mark.fault("MLflow's server away while a trained model waits")
def test_a_trained_model_waits_for_a_server_that_is_away(model_homes, trained, as_of):
    world = model_homes.put_back("trained")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        away = {"stores": {"mlflow": f"http://127.0.0.1:{probe.getsockname()[1]}"}}

    ended = world.run("train_interest_model", as_of, settings=away)

    assert (ended.code, ended.error) == (1, "EngineFailure"), ended.says
    run = next(world.settings.place("models").glob("*@*"))
    assert (run / "model").is_dir() and versions(world) == []
    world.run("train_interest_model", as_of).well()
    assert world.run("gate_interest_model", as_of).well()["promoted"]
    assert len(versions(world)) == 1
    world.must_be(trained)


@pytest.mark.fault("kill -9 in a checkpoint's write")
@pytest.mark.parametrize("fault", ["checkpoint.before_manifest:kill:2", "train.before_model:kill"])
def test_a_killed_training_goes_on_to_the_same_weights(model_homes, trained, as_of, fault):
    world = model_homes.put_back("planted")
    assert world.run("train_interest_model", as_of, fault=fault).code == -signal.SIGKILL
    world.run("train_interest_model", as_of).well()
    assert world.run("gate_interest_model", as_of).well()["promoted"]
    assert len(versions(world)) == 1
    world.must_be(trained)


@pytest.mark.fault("SIGTERM in a training step, then resume: the same model and metrics")
def test_a_terminated_training_goes_on_to_the_same_model(model_homes, trained, as_of):
    measured = metrics(model_homes.put_back("promoted"))
    world = model_homes.put_back("planted")
    world.processes.begin(world.asked("train_interest_model", as_of, fault="checkpoint.before_manifest:sleep:1"))
    deadline = time.monotonic() + 120
    while not list(world.settings.place("models").rglob("epoch-*")):
        assert time.monotonic() < deadline, "no checkpoint appeared"
        time.sleep(0.05)
    os.kill(world.processes.children[0], signal.SIGTERM)
    assert world.processes.end()[0].code not in (0, 1)
    assert versions(world) == []
    world.run("train_interest_model", as_of).well()
    assert world.run("gate_interest_model", as_of).well()["promoted"]
    assert metrics(world) == measured
    world.must_be(trained)


@pytest.mark.fault("two trainings of the same run key at once")
def test_two_trainings_at_once_give_one_version(model_homes, trained, as_of):
    world = model_homes.put_back("trained")
    asked = [world.asked("train_interest_model", as_of) for _ in range(2)]
    ended = world.processes.at_once(*asked)
    assert [one.code for one in ended] == [0, 0], ended
    assert len(versions(world)) == 1
    assert world.run("gate_interest_model", as_of).well()["promoted"]
    world.must_be(trained)
