"""Two processes that train one model together have the loss curve of one."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.training.distributed import Peers, joined
from pipeline.training.epochs import TrainingRun
from pipeline.training.together import train_together


def test_two_processes_have_the_loss_curve_of_one(rounds, tmp_path):
    config = rounds.config(dropout=0.0)
    run = TrainingRun(max_epochs=3, patience=9, max_seconds=1e6)
    shared = train_together(*rounds.inputs, config, run=replace(run, checkpoint_dir=tmp_path), processes=2)
    alone = train_together(*rounds.inputs, config, run=run, processes=1)
    for name, tolerance in (("loss", 1e-3), ("score", 1e-2)):
        expected = [curve[name] for curve in alone.curves]
        assert [curve[name] for curve in shared.curves] == pytest.approx(expected, rel=tolerance)
    assert (shared.steps, shared.best_epoch, shared.tokens) == (alone.steps, alone.best_epoch, alone.tokens)
    assert np.allclose(shared.model.encode(rounds.train), alone.model.encode(rounds.train), atol=0.02)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["epoch-0001", "epoch-0002"]


def test_a_process_that_was_started_alone_has_no_peers():
    with joined() as peers:
        assert peers == Peers(0, 1) and peers.is_first
        assert peers.told("word") == "word" and peers.any(True) and not peers.any(False)
