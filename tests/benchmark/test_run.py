"""`interest benchmark` on a small shop: its files can be scored by other code, and its mistakes are told."""

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

MODELS = "interest_evolution,collaborative_filter,collaborative_filter_without_lti,content,hybrid,popularity,item_knn"


@pytest.fixture(scope="module")
def outcome(shop: Path, run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("benchmark")
    done = run(shop, out, "--quantile", "0.7", "--seeds", "2", "--budget-cpu-seconds", "2", "--models", MODELS,
               "--set", "batches_an_epoch=2", "--ablation", "--json")
    assert done.exit_code == 0, done.output
    return out, json.loads((out / "benchmark.json").read_text(encoding="utf-8"))


def test_an_outsider_gets_the_same_numbers_from_the_files(outcome):
    out, result = outcome
    targets = pl.read_parquet(out / "targets.parquet")
    for row in result["table"]:
        name = row["model"]
        lists = pl.read_parquet(out / name / "recommendations.parquet")
        assert lists.columns == ["user_id", "item_id", "rank", "score"]
        ndcg, recall = [], []
        for (user,), mine in targets.group_by("user_id"):
            shown = lists.filter(pl.col("user_id") == user).sort("rank")
            upcoming = mine.filter("is_next")["item_id"][0]
            place = shown["item_id"].to_list().index(upcoming) + 1 if upcoming in shown["item_id"].to_list() else 999
            ndcg.append(1 / math.log2(place + 1) if place <= 10 else 0.0)
            recall.append(len({*shown["item_id"][:10]} & {*mine["item_id"]}) / mine.height)
        assert result["seeds"][name]["ndcg@10"][0] == pytest.approx(np.mean(ndcg), abs=1e-6)
        assert result["seeds"][name]["recall@10"][0] == pytest.approx(np.mean(recall), abs=1e-6)


def test_nothing_that_a_user_had_is_recommended_and_cold_items_are(outcome, shop):
    out, result = outcome
    events = pl.read_csv(shop / "events.csv", try_parse_dates=True)
    start = pl.lit(result["split"]["test_start"]).str.to_datetime(time_zone="UTC").dt.date()
    had = events.filter(pl.col("day") < start).select(user_id="user", item_id="item")
    for row in result["table"]:
        lists = pl.read_parquet(out / row["model"] / "recommendations.parquet")
        assert lists.join(had, on=["user_id", "item_id"]).is_empty()
    rank = {}
    for name in ("content", "popularity"):
        lists = pl.read_parquet(out / name / "recommendations.parquet")
        rank[name] = lists.filter(pl.col("item_id") == "a99")["rank"].mean()
    assert rank["content"] < rank["popularity"]


def test_what_interest_is_worth_and_how_it_ages_are_tables(outcome):
    out, result = outcome
    filtered, placebo, stale = (result["claims"][name] for name in ("filter_placebo", "hybrid_placebo", "staleness"))
    for rows in (filtered, placebo):
        assert [row["model"] for row in rows] == ["own", "another", "zeros", "90_days_ago"]
    assert [row["model"] for row in stale] == [f"{age}_days_old" for age in (0, 7, 14, 21, 28)]
    without = "collaborative_filter_without_lti"
    for asked, model in ((filtered[0], "collaborative_filter"), (filtered[2], without), (placebo[0], "hybrid"),
                         (stale[0], "interest_evolution")):
        assert asked["recall@10"]["mean"] == pytest.approx(result["seeds"][model]["recall@10"][0], abs=1e-6)
    assert "| 14_days_old |" in (out / "benchmark.md").read_text(encoding="utf-8")


def test_the_parts_of_the_interest_model_are_added_one_by_one(outcome):
    out, result = outcome
    names = [row["model"] for row in result["ablation"]]  # the log has one event type: no rung for that
    assert names == ["id only", "+ text", "+ all-action", "+ category mix", "+ trend", "+ time", "+ pooled history"]
    whole = result["ablation"][-1]["recall@10"]
    assert whole["mean"] == pytest.approx(np.mean(result["seeds"]["interest_evolution"]["recall@10"]), abs=1e-6)
    assert whole["change"] == pytest.approx(whole["mean"] / result["ablation"][-2]["recall@10"]["mean"] - 1, abs=1e-6)
    lists = [pl.read_parquet(out / "ablation" / rung / "recommendations-seed-8.parquet") for rung in names[:1]]
    lists += [pl.read_parquet(out / "interest_evolution" / "recommendations-seed-8.parquet")]
    assert not lists[0].equals(lists[1])
    assert "| + category mix |" in (out / "benchmark.md").read_text(encoding="utf-8")


def test_costs_seeds_and_versions_are_told(outcome):
    out, result = outcome
    first, second = result["costs"].values()
    assert first["interest_evolution"]["training_cpu_seconds"] < 2 + 1.0
    assert first["interest_evolution"]["tokens_per_cpu_second"] > 0 and "popularity" not in second
    assert len(result["seeds"]["hybrid"]["ndcg@10"]) == 2 and len(result["seeds"]["popularity"]["ndcg@10"]) == 1
    assert result["provenance"]["packages"]["torch"]
    text = (out / "benchmark.md").read_text(encoding="utf-8")
    assert "| hybrid |" in text and (out / "plots" / "metrics.png").stat().st_size > 1000
    assert (out / "hybrid" / "recommendations-seed-8.parquet").is_file()
    assert [*result["calibration_error"]] == ["hybrid"] and 0 <= result["calibration_error"]["hybrid"] < 0.5
    assert "hybrid says how probable it is" in text


@pytest.mark.parametrize(("more", "message"), [
    (("--models", "sasrec"), "No model sasrec"),
    (("--seeds", "0"), "There are 0 seeds"),
    (("--budget-cpu-seconds", "0"), "The budget is 0"),
    (("--preset", "movielens"), "Give either --mapping"),
    (("--set", "colour=3"), "no field colour"),
    (("--quantile", "2"), "from 0.1 to 0.99"),
    (("--diversity", "2"), "The diversity is 2"),
])
def test_a_misuse_is_one_line(shop, run, tmp_path, more, message):
    done = run(shop, tmp_path / "out", *more)
    assert done.exit_code == 2 and message in done.output and "Traceback" not in done.output


def test_a_log_that_leaves_nobody_to_ask_is_told_before_anything_is_trained(shop_of, run, tmp_path):
    """Every item of the test is new and without a title, so nothing could name it."""
    lines = [f"u{n % 4},i{n},2026-01-{n + 1:02d}" for n in range(28)]
    done = run(shop_of(lines), tmp_path / "out", "--seeds", "1", "--models", "popularity")
    said = " ".join(done.output.split())
    assert done.exit_code != 0 and "Nobody can be asked: of 3 test events 3 are of items" in said
    assert not (tmp_path / "out" / "popularity").exists()


def test_diversified_lists_hold_other_items(shop, run, tmp_path):
    lists = []
    for diversity in ("0", "0.9"):
        done = run(shop, tmp_path, "--quantile", "0.7", "--seeds", "1", "--models", "popularity",
                   "--diversity", diversity)
        assert done.exit_code == 0, done.output
        found = pl.read_parquet(tmp_path / "popularity" / "recommendations.parquet").filter(pl.col("rank") <= 4)
        lists.append(found.sort("user_id", "rank").group_by("user_id", maintain_order=True).agg("item_id")["item_id"])
    plain, diverse = (found.to_list() for found in lists)
    assert [row[0] for row in plain] == [row[0] for row in diverse]
    assert sum(set(one) != set(other) for one, other in zip(plain, diverse, strict=True)) > len(plain) / 2


def test_leave_one_out_tells_nobody_what_became_popular_after_their_time(shop_of, run, tmp_path):
    """Ten users take a, b, c, then x in March and a, b, c, then y in June; x is popular in March, y in June only."""
    lines = []
    for month, last in (("03", "x"), ("06", "y")):
        for user in range(10):
            days = [f"2026-{month}-{day:02d}" for day in (1 + user, 11 + user)]
            lines += [f"u{month}{user},{item},{days[0]}" for item in "abc"] + [f"u{month}{user},{last},{days[1]}"]
            lines += [f"v{month}{user}{item},{item},{days[0]}" for item in last * 2]
    options = ("--split", "leave-one-out", "--seeds", "1", "--models", "popularity,popularity_30d")
    done = run(shop_of(lines), tmp_path / "out", *options)
    assert done.exit_code == 0, done.output
    targets = pl.read_parquet(tmp_path / "out" / "targets.parquet")
    assert dict(targets.select("user_id", "item_id").iter_rows())["u031"] == "x" and targets.height == 20
    lists = pl.read_parquet(tmp_path / "out" / "popularity_30d" / "recommendations.parquet")
    best = lists.filter(pl.col("rank") == 1).join(targets, on="user_id", suffix="_wanted")
    late = best.filter(pl.col("user_id") == "u038")
    assert late["item_id"].to_list() == ["x"]  # by the end of the log it would be y
    assert "y" not in best.filter(pl.col("user_id").str.starts_with("u03"))["item_id"].to_list()
