"""A model of another library takes part in a benchmark from an environment of its own."""

import json

import polars as pl
import pytest

from pipeline.benchmark import peers
from pipeline.benchmark.contenders import models_at_hand

NEEDS_THE_ENVIRONMENT = pytest.mark.skipif(
    peers.peers_python() is None, reason=f"{peers.ENVIRONMENT} is not there; `make peers` makes it"
)


OPTIONS = ("--quantile", "0.7", "--seeds", "1", "--budget-cpu-seconds", "2", "--models", f"{peers.SASREC},popularity")


@NEEDS_THE_ENVIRONMENT
def test_sasrec_answers_the_same_questions(shop, run, tmp_path):
    done = run(shop, tmp_path, *OPTIONS)
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))
    facts = result["costs"]["7"][peers.SASREC]
    assert facts["tokens"] > 0 and 0 < facts["training_cpu_seconds"] < 20
    names = (peers.SASREC, "popularity")
    lists = {name: pl.read_parquet(tmp_path / name / "recommendations.parquet") for name in names}
    asked = {name: set(frame["user_id"]) for name, frame in lists.items()}
    assert asked[peers.SASREC] == asked["popularity"]
    assert lists[peers.SASREC].filter(pl.col("rank") == 1)["item_id"].n_unique() > 1


def test_without_the_environment_it_is_left_out_and_asking_for_it_says_what_to_do(shop, run, tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "ENVIRONMENT", tmp_path / "nothing")
    assert peers.SASREC not in models_at_hand()
    refused = run(shop, tmp_path / "out", *OPTIONS)
    assert refused.exit_code != 0
    assert "make peers" in str(refused.exception) + refused.output
