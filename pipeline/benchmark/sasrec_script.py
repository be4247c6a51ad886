"""
Trains SASRec (Kang and McAuley 2018) as RecTools has it, and writes its lists. Run by the Python of the peers' own
environment (`make peers`), so it imports nothing of this project and nothing but RecTools, Lightning and pandas.

    python sasrec_script.py FOLDER CPU_SECONDS K SEED INCLUDE_SEEN

FOLDER has `learned.parquet` and `known.parquet` (user_id, item_id, order); `lists.parquet` (user_id, item_id, rank,
score) and `facts.json` (cpu_seconds, tokens, epochs) are written into it. Training ends after so many CPU seconds of
all threads, at the end of a batch. Settings are RecTools' own, but for 64 dimensions and two heads instead of 256 and
four, which a processor would not get through once, and batches so small that an epoch has a hundred steps: of 128
sequences a small log gives so few steps that the budget ends before anything is learned.
"""

import json
import sys
import time
import warnings
from pathlib import Path

import pandas as pd
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

DIM, HEADS, MOST_EPOCHS = 64, 2, 1000
SMALLEST_BATCH, LARGEST_BATCH, STEPS_AN_EPOCH = 16, 128, 100


class Budget(Callback):
    """Counts the events that are read, and stops when the CPU seconds are used up."""

    def __init__(self, cpu_seconds: float) -> None:
        self.cpu_seconds, self.used, self.tokens = cpu_seconds, 0.0, 0

    def on_train_start(self, trainer, module) -> None:
        self.began = time.process_time()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.tokens += int((batch["x"] != 0).sum())
        self.used = time.process_time() - self.began
        trainer.should_stop = trainer.should_stop or self.used > self.cpu_seconds


def interactions(file: Path) -> pd.DataFrame:
    """Events as RecTools wants them; their order stands for their time, so that equal times keep theirs."""
    events = pd.read_parquet(file)
    moments = pd.Timestamp("2000-01-01") + pd.to_timedelta(events["order"], unit="s")
    return pd.DataFrame({
        Columns.User: events["user_id"], Columns.Item: events["item_id"], Columns.Weight: 1.0,
        Columns.Datetime: moments,
    })


def main(folder: Path, cpu_seconds: float, k: int, seed: int, include_seen: bool) -> None:
    warnings.filterwarnings("ignore")
    seed_everything(seed)

    def trainer() -> Trainer:
        return Trainer(
            max_epochs=MOST_EPOCHS, callbacks=[Budget(cpu_seconds)], accelerator="cpu", devices=1, deterministic=True,
            logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )

    learned = interactions(folder / "learned.parquet")
    batch = min(max(learned[Columns.User].nunique() // STEPS_AN_EPOCH, SMALLEST_BATCH), LARGEST_BATCH)
    model = SASRecModel(
        n_factors=DIM, n_heads=HEADS, batch_size=batch, deterministic=True, get_trainer_func=trainer,
    )
    model.fit(Dataset.construct(learned))
    spent = next(callback for callback in model.fit_trainer.callbacks if isinstance(callback, Budget))
    known = Dataset.construct(interactions(folder / "known.parquet"))
    found = model.recommend(
        users=known.user_id_map.external_ids, dataset=known, k=k, filter_viewed=not include_seen,
        on_unsupported_targets="ignore",
    )
    found.to_parquet(folder / "lists.parquet")
    facts = {"cpu_seconds": spent.used, "tokens": spent.tokens, "epochs": model.fit_trainer.current_epoch}
    (folder / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5] == "True")
