"""
Writes a seeded log of shoppers for tests of speed: 22,000 users, 12,000 items and 9 events each unless said otherwise.

    python benchmarks/synthetic_log.py /tmp/log --users 22000 --items 12000 --events 9

It has popularity, tastes and series of neighbouring items, but no language and no people: it says how fast something
is and nothing about how good it is.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl

GROUPS = 60
DAY = 86_400
FIRST = 1_200_000_000


def write(folder: Path, users: int, items: int, events: int, days: int, seed: int) -> None:
    """`events.csv` (user, item, time: a midnight, in seconds), `items.csv` and `mapping.yaml`."""
    rng = np.random.default_rng(seed)
    group = rng.integers(GROUPS, size=items)
    weight = rng.pareto(1.2, size=items) + 0.05
    born = np.sort(rng.integers(0, int(days * 0.9), size=items))
    lengths = np.maximum(rng.geometric(1.0 / max(events - 4, 1), size=users) + 4, 5)
    tastes = rng.integers(GROUPS, size=(users, 3))
    members = [np.flatnonzero(group == number) for number in range(GROUPS)]
    shares = [weight[each] / weight[each].sum() for each in members]
    rows = []
    for user in range(users):
        moments = np.sort(rng.integers(int(days * 0.05), days, size=lengths[user]))
        for moment in moments:
            taste = tastes[user, rng.choice(3, p=[0.6, 0.3, 0.1])]
            item = rng.choice(members[taste], p=shares[taste])
            rows.append((user, int(item if born[item] <= moment else members[taste][0]), FIRST + int(moment) * DAY))
    folder.mkdir(parents=True, exist_ok=True)
    frame = pl.DataFrame(rows, schema=["user", "item", "time"], orient="row").unique(maintain_order=True)
    frame.write_csv(folder / "events.csv")
    titles = [f"Item {number} of kind {group[number]}" for number in range(items)]
    pl.DataFrame({"item": range(items), "title": titles, "kind": [f"kind {g}" for g in group]}).write_csv(
        folder / "items.csv"
    )
    (folder / "mapping.yaml").write_text(
        "events:\n  columns: {user_id: user, item_id: item, event_time: time}\n"
        "  event_type: {constant: purchase}\n  time: {unit: s}\n"
        "items:\n  columns: {item_id: item, title: title, categories: kind}\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    for name, default in (("users", 22_000), ("items", 12_000), ("events", 9), ("days", 3_000), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    write(**vars(parser.parse_args()))
