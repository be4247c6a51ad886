"""
Trains the interest model in several processes on this machine: `torchrun` starts them, each on a GPU where there are
any, and the first one leaves the model in a folder.

    torchrun --standalone --nproc-per-node 2 -m pipeline.training.together FOLDER
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from pipeline.errors import EngineFailure
from pipeline.models.interest_evolution import InterestEvolutionModel
from pipeline.training.distributed import joined
from pipeline.training.epochs import TrainingRun
from pipeline.training.interruption import Termination
from pipeline.training.loop import TrainedModel, train_interest_model

QUESTION, ANSWER, MODEL = "question.pickle", "answer.json", "model"
SECONDS_BETWEEN_LOOKS = 0.2


def train_together(*inputs, run: TrainingRun, processes: int) -> TrainedModel:
    """`train_interest_model(*inputs, run)` by so many processes; with one, in this one.

    A SIGTERM is passed on: they write a checkpoint and end, and so does this process.

    Raises:
        EngineFailure: a process failed; what it said is above, in the log.
    """
    if processes == 1:
        return train_interest_model(*inputs, run)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / QUESTION).write_bytes(pickle.dumps((inputs, run)))      # read by processes of ours, then removed
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        started = subprocess.Popen([*torchrun, "-m", __name__, name])
        with Termination() as termination:
            while started.poll() is None:
                if termination.asked:
                    started.terminate()
                    started.wait()
                    termination.obey()
                try:
                    started.wait(SECONDS_BETWEEN_LOOKS)
                except subprocess.TimeoutExpired:
                    continue
        if started.returncode != 0:
            raise EngineFailure(
                f"Training in {processes} processes ended with code {started.returncode}; its log says why. A retry "
                "goes on from the last checkpoint."
            )
        answer = json.loads((folder / ANSWER).read_text(encoding="utf-8"))
        return TrainedModel(InterestEvolutionModel.from_pretrained(folder / MODEL), **answer)


def _answer(folder: Path) -> None:
    inputs, run = pickle.loads((folder / QUESTION).read_bytes())
    with joined() as peers:
        trained = train_interest_model(*inputs, replace(run, peers=peers))
        if peers.is_first:
            trained.model.save_pretrained(folder / MODEL)
            facts = asdict(replace(trained, model=None))
            del facts["model"]
            (folder / ANSWER).write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    _answer(Path(sys.argv[1]))
