"""SIGTERM in the middle of an epoch: a checkpoint is written there, and the run goes on from it to the same weights."""

import os
import signal
import threading
from dataclasses import replace

import pytest
import torch

from pipeline.training.checkpoint import load_newest
from pipeline.training.epochs import TrainingRun
from pipeline.training.gradients import Gradients
from pipeline.training.interruption import Termination
from pipeline.training.loop import train_interest_model

RUN = TrainingRun(max_epochs=2, patience=9, max_seconds=1e6, conflict_every=4)


class Terminated(Exception):
    """What the process does about SIGTERM, in these tests."""


@pytest.fixture(autouse=True)
def listener():
    def raise_it(number, frame):
        raise Terminated

    before = signal.signal(signal.SIGTERM, raise_it)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def whole(rounds):
    return train_interest_model(*rounds.inputs, rounds.config(), RUN)


@pytest.mark.fault("SIGTERM within an epoch, then resume")
@pytest.mark.parametrize("batch", [10, 14])
def test_a_run_terminated_within_an_epoch_goes_on_to_the_same_weights(rounds, whole, monkeypatch, tmp_path, batch):
    call, calls = Gradients.__call__, []

    def counted(self, *arguments):
        calls.append(1)
        if len(calls) == batch:
            os.kill(os.getpid(), signal.SIGTERM)
        return call(self, *arguments)

    monkeypatch.setattr(Gradients, "__call__", counted)
    halted = replace(RUN, checkpoint_dir=tmp_path)
    with pytest.raises(Terminated):
        train_interest_model(*rounds.inputs, rounds.config(), halted)
    assert len(calls) == batch, "the batch was finished, and no other begun"
    newest = sorted(tmp_path.iterdir())[-1]
    assert (newest / "randomness.safetensors").exists()

    resumed = train_interest_model(*rounds.inputs, rounds.config(), halted)

    assert len(calls) == whole.steps, "no batch was learned twice"
    one, other = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    first, second = ([{**curve, "seconds": 0} for curve in run.curves] for run in (whole, resumed))
    assert first == second and "cosine_next_future" in first[1]
    assert resumed.model.config.space_id == whole.model.config.space_id


def test_a_signal_that_comes_while_an_epoch_is_scored_is_obeyed_as_well(tmp_path):
    with pytest.raises(Terminated), Termination() as termination:
        os.kill(os.getpid(), signal.SIGTERM)
        assert termination.asked
    assert load_newest(tmp_path, "", torch.device("cpu")) is None


def test_an_error_is_not_hidden_behind_a_signal():
    with pytest.raises(ZeroDivisionError), Termination():
        os.kill(os.getpid(), signal.SIGTERM)
        _ = 1 / 0


def test_whoever_only_listens_does_not_keep_the_training_alive():
    heard = []
    signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    with pytest.raises(SystemExit) as left, Termination() as termination:
        os.kill(os.getpid(), signal.SIGTERM)
        termination.obey()
    assert heard == [signal.SIGTERM] and left.value.code == 143


def test_a_thread_that_may_not_listen_trains_all_the_same():
    found = []

    def inside():
        with Termination() as termination:
            found.append(termination.asked)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert found == [False]
