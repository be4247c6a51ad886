"""Two processes that train one model together have the loss curve of one."""

import json
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pipeline.training.distributed import Peers, joined
from pipeline.training.epochs import TrainingRun
from pipeline.training.loop import train_interest_model

PROGRAM = textwrap.dedent("""
    import json, pickle, sys
    from dataclasses import replace
    from pathlib import Path
    import torch
    torch.set_num_threads(1)
    from pipeline.training.distributed import joined
    from pipeline.training.loop import train_interest_model
    folder = Path(sys.argv[1])
    inputs, config, run = pickle.loads((folder / "inputs").read_bytes())
    with joined() as peers:
        trained = train_interest_model(*inputs, config, replace(run, peers=peers, checkpoint_dir=folder / "kept"))
        found = {"count": peers.count, "losses": [curve["loss"] for curve in trained.curves],
                 "scores": [curve["score"] for curve in trained.curves], "space": trained.model.config.space_id}
    (folder / f"found-{peers.rank}").write_text(json.dumps(found))
""")


def test_two_processes_have_the_loss_curve_of_one(rounds, tmp_path):
    config = rounds.config(dropout=0.0)
    run = TrainingRun(max_epochs=3, patience=9, max_seconds=1e6)
    (tmp_path / "inputs").write_bytes(pickle.dumps((rounds.inputs, config, run)))
    (tmp_path / "program.py").write_text(PROGRAM)
    root = str(Path(__file__).parents[2])
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    ended = subprocess.run(
        [*torchrun, str(tmp_path / "program.py"), str(tmp_path)], cwd=root, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}, timeout=240, check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    alone = train_interest_model(*rounds.inputs, config, run)
    found = [json.loads((tmp_path / f"found-{rank}").read_text()) for rank in range(2)]
    assert found[0] == found[1] and found[0]["count"] == 2
    assert found[0]["losses"] == pytest.approx([curve["loss"] for curve in alone.curves], rel=1e-3)
    assert found[0]["scores"] == pytest.approx([curve["score"] for curve in alone.curves], rel=1e-2)
    assert [path.name for path in sorted((tmp_path / "kept").iterdir())] == ["epoch-0001", "epoch-0002"]


def test_a_process_that_was_started_alone_has_no_peers():
    with joined() as peers:
        assert peers == Peers(0, 1) and peers.is_first
        assert peers.told("word") == "word" and peers.any(True) and not peers.any(False)
