"""
Makes sparse logs of dense public ones: about ten events a user, titles, items that appear as time goes on.

    python benchmarks/sparse_logs.py OUT [--retail online_retail.parquet] [--grocery FOLDER] [--films FOLDER]

    OUT/retail/       Online Retail: a customer's distinct items dealt out at random to users of about ten events
    OUT/retail-days/  the same with times cut to the day
    OUT/grocery/      Complete Journey (FOLDER has its transactions.parquet and products.parquet): three tenths of what
                      a household bought, distinct items, its year cut into users of ten events one after the other
    OUT/films/        MovieLens small (FOLDER has its ratings.csv and movies.csv): a viewer's ratings dealt out like a
                      customer's items

Every folder gets events.parquet (user_id, item_id, time), items.parquet (item_id, title, categories) and mapping.yaml.
In the shops some items appear late: each gets a moment, even over a span a third longer than the log, before which its
events are left out. Users of fewer than four events are left out. Everything is seeded.

What this cannot show: the users that one person was cut into never share an item, so what goes with what is harder to
find here than among as many real people.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl

EVENTS_A_USER = 10
SHORTEST = 4
MAPPING = """description: A sparse log made by benchmarks/sparse_logs.py.
events:
  columns: {user_id: user_id, item_id: item_id, event_time: time, event_id: {hash_of: [user_id, item_id, time]}}
  event_type: {constant: purchase}
items:
  columns: {item_id: item_id, title: title, categories: categories}
  category_separator: "|"
"""


def dealt_out(events: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Each user's events at random to so many users that each has about EVENTS_A_USER."""
    hands = (pl.len().over("user_id") / EVENTS_A_USER).ceil()
    share = pl.Series(rng.random(events.height))
    return _named(events.with_columns((pl.lit(share) * hands).floor().cast(pl.Int64).alias("part")))


def cut_in_turn(events: pl.DataFrame) -> pl.DataFrame:
    """Each user's events cut, in order of time, into users of EVENTS_A_USER."""
    place = pl.int_range(pl.len()).over("user_id")
    return _named(events.sort("user_id", "time", "item_id").with_columns((place // EVENTS_A_USER).alias("part")))


def _named(events: pl.DataFrame) -> pl.DataFrame:
    return events.with_columns(pl.format("{}-{}", "user_id", "part").alias("user_id")).drop("part")


def with_late_items(events: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Without the events of an item before its moment."""
    items = events["item_id"].unique().sort()
    first, last = events["time"].min(), events["time"].max()
    shares = np.maximum(rng.random(len(items)) * 4 / 3 - 1 / 3, 0.0)
    begins = pl.DataFrame({"item_id": items, "begins": [first + (last - first) * float(share) for share in shares]})
    begins = begins.with_columns(pl.col("begins").cast(events.schema["time"]))
    return events.join(begins, on="item_id").filter(pl.col("time") >= pl.col("begins")).drop("begins")


def write(folder: Path, events: pl.DataFrame, items: pl.DataFrame) -> None:
    events = events.filter(pl.len().over("user_id") >= SHORTEST).sort("time", "user_id", "item_id")
    items = items.filter(pl.col("item_id").is_in(events["item_id"].unique().implode())).sort("item_id")
    folder.mkdir(parents=True, exist_ok=True)
    events.select("user_id", "item_id", "time").write_parquet(folder / "events.parquet")
    items.write_parquet(folder / "items.parquet")
    (folder / "mapping.yaml").write_text(MAPPING, encoding="utf-8")
    print(f"{folder}: {events.height:,} events, {events['user_id'].n_unique():,} users, {items.height:,} items")


def retail(source: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    rows = pl.read_parquet(source).filter(
        pl.col("CustomerID").is_not_null() & (pl.col("Quantity") > 0) & ~pl.col("InvoiceNo").str.starts_with("C")
        & pl.col("StockCode").str.contains(r"^\d{5}")
    ).select(
        pl.col("CustomerID").cast(pl.String).alias("user_id"), pl.col("StockCode").alias("item_id"),
        pl.col("InvoiceDate").alias("time"), pl.col("Description").alias("title"),
    ).sort("user_id", "time", "item_id")
    items = rows.group_by("item_id").agg(pl.col("title").drop_nulls().first(), pl.lit("").alias("categories"))
    return rows.drop("title").unique(["user_id", "item_id"], keep="first", maintain_order=True), items


def grocery(folder: Path, rng: np.random.Generator) -> tuple[pl.DataFrame, pl.DataFrame]:
    rows = pl.read_parquet(folder / "transactions.parquet").select(
        pl.col("household_id").cast(pl.String).alias("user_id"), pl.col("product_id").cast(pl.String).alias("item_id"),
        pl.col("transaction_timestamp").cast(pl.Datetime("us")).alias("time"),
    ).sort("user_id", "time", "item_id").unique(["user_id", "item_id"], keep="first", maintain_order=True)
    rows = rows.filter(pl.col("user_id").n_unique().over("item_id") >= 20)
    words = [pl.col(name).fill_null("") for name in ("product_type", "package_size")]
    items = pl.read_parquet(folder / "products.parquet").filter(pl.col("product_type").is_not_null()).select(
        pl.col("product_id").cast(pl.String).alias("item_id"),
        pl.concat_str(*words, separator=" ").str.to_titlecase().alias("title"),
        pl.col("product_category").fill_null("").alias("categories"),
    )
    return rows.filter(pl.lit(pl.Series(rng.random(rows.height))) < 0.3), items


def films(folder: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    rows = pl.read_csv(folder / "ratings.csv").select(
        pl.col("userId").cast(pl.String).alias("user_id"), pl.col("movieId").cast(pl.String).alias("item_id"),
        pl.from_epoch("timestamp").cast(pl.Datetime("us")).alias("time"),
    ).sort("user_id", "time", "item_id")
    items = pl.read_csv(folder / "movies.csv").select(
        pl.col("movieId").cast(pl.String).alias("item_id"), "title", pl.col("genres").alias("categories")
    )
    return rows, items


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--retail", type=Path, help="online_retail.parquet")
    parser.add_argument("--grocery", type=Path, help="folder with transactions.parquet and products.parquet")
    parser.add_argument("--films", type=Path, help="folder with ratings.csv and movies.csv")
    given = parser.parse_args()
    if given.retail:
        rng = np.random.default_rng(7)
        events, items = retail(given.retail)
        sparse = with_late_items(dealt_out(events, rng), rng)
        write(given.out / "retail", sparse, items)
        write(given.out / "retail-days", sparse.with_columns(pl.col("time").dt.truncate("1d")), items)
    if given.grocery:
        rng = np.random.default_rng(7)
        events, items = grocery(given.grocery, rng)
        write(given.out / "grocery", cut_in_turn(with_late_items(events, rng)), items)
    if given.films:
        events, items = films(given.films)
        write(given.out / "films", dealt_out(events, np.random.default_rng(7)), items)


if __name__ == "__main__":
    main()
