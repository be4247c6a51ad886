"""
Models of other libraries, which live in an environment of their own because they ask for other versions than ours.

`make peers` makes it. A peer is trained by a process of that environment and answers with lists, not with scores.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from pipeline.errors import BadSetting, EngineFailure
from pipeline.features.histories import FIRST_ITEM, Catalogue, Histories
from pipeline.models.recommender import mask_special_items

SASREC = "sasrec_rectools"
ENVIRONMENT = Path(__file__).parents[2] / ".venv-peers"
SCRIPT = Path(__file__).with_name("sasrec_script.py")
DEPTH = 100
"""Items in a peer's list; the others rank below all of them."""
BELOW = -1e9


def peers_python() -> Path | None:
    """The Python of the peers' environment, where `make peers` has made it."""
    python = ENVIRONMENT / "bin" / "python"
    return python if python.exists() else None


@dataclass
class SASRec:
    """SASRec of RecTools; see `sasrec_script`."""

    budget_cpu_seconds: float
    seed: int
    include_seen: bool
    known: Histories = field(repr=False)
    """what is known of everybody who will be asked, which may be more than what is learned from"""
    name: str = SASREC
    facts: dict[str, object] = field(default_factory=dict)

    def fit(self, histories: Histories, catalogue: Catalogue, as_of: datetime) -> SASRec:
        """Train, and keep everybody's list.

        Raises:
            BadSetting: the environment is not there.
            EngineFailure: the process failed; what it said is in the message.
        """
        python = peers_python()
        if python is None:
            raise BadSetting(f"The environment of {SASREC}, {ENVIRONMENT}, is not there. Run `make peers`.")
        self.num_items = catalogue.num_items
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            _events(histories).write_parquet(folder / "learned.parquet")
            _events(self.known).write_parquet(folder / "known.parquet")
            given = [folder, self.budget_cpu_seconds, DEPTH, self.seed, self.include_seen]
            done = subprocess.run([python, SCRIPT, *map(str, given)], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise EngineFailure(f"{SASREC} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
            facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
            self.lists = pl.read_parquet(folder / "lists.parquet").partition_by("user_id", as_dict=True)
        self.facts = {
            "training_cpu_seconds": round(facts["cpu_seconds"], 2),
            "tokens": facts["tokens"],
            "epochs": facts["epochs"],
            "tokens_per_cpu_second": round(facts["tokens"] / max(facts["cpu_seconds"], 1e-9)),
        }
        return self

    def scores(self, histories: Histories, as_of: datetime) -> np.ndarray:
        """[users, num_items] float32: RecTools' own for the items of a list, one low value for all others."""
        found = np.full((histories.num_users, self.num_items), BELOW, dtype=np.float32)
        for row, user in enumerate(histories.user_ids):
            if (own := self.lists.get((user,))) is not None:
                found[row, own["item_id"].to_numpy()] = own["score"].to_numpy()
        return mask_special_items(found)


def _events(histories: Histories) -> pl.DataFrame:
    """user_id, item_id (the item's number) and order, of the events with a known item."""
    known = histories.items >= FIRST_ITEM
    return pl.DataFrame({
        "user_id": histories.user_ids[histories.owners[known]].tolist(),
        "item_id": histories.items[known],
        "order": np.argsort(np.argsort(histories.times[known], kind="stable"), kind="stable"),
    })
