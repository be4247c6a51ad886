"""
How a registered model is read and asked, by MLflow, by other teams, and by the gate before a promotion.

`_load_pyfunc` is what MLflow calls; nothing in the folder is executed, and every file is checked first. Started as a
program (`python -m pipeline.serving.registered_model FOLDER`), it loads a saved model in a process of its own and
repeats the example that was saved with it: exit 0 when the answer is the same, exit 6 when it is not.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import polars as pl

from pipeline.errors import EngineFailure, UnsafeModel
from pipeline.features.histories import EPOCH, FIRST_ITEM, Catalogue, Histories
from pipeline.stores.model_files import check_files

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.models.collaborative_filter import CollaborativeFilter
    from pipeline.models.interest_evolution import InterestEvolutionModel

EXAMPLE = "example.json"
EXAMPLE_USERS = 3
EXAMPLE_EVENTS = 20
TOLERANCE = 1e-3
"""Another machine may add floats in another order."""
FRESH_PROCESS_S = 600
LOADER = "pipeline.serving.registered_model"

INPUT_SCHEMA = {
    "user_id": pl.String(),
    "item_ids": pl.List(pl.String()),
    "event_types": pl.List(pl.String()),
    "event_times": pl.List(pl.Int64()),
}
"""A user's events, oldest first; times are microseconds since 1970, UTC."""


class AskedForInterest:
    """The interest model behind MLflow's `predict`: events in, long-term interest vectors out."""

    input_schema: ClassVar = INPUT_SCHEMA
    output_schema: ClassVar = {"user_id": pl.String(), "vector": pl.List(pl.Float32())}

    def __init__(self, model: InterestEvolutionModel):
        self.model = model

    def answer(self, rows: pl.DataFrame) -> pl.DataFrame:
        histories = _histories(rows, self.model.catalogue, self.model.config.event_types)
        found = {"user_id": histories.user_ids.tolist(), "vector": self.model.encode(histories).tolist()}
        return rows.select("user_id").join(pl.DataFrame(found, self.output_schema), on="user_id", how="left")

    def predict(self, model_input: pd.DataFrame, params: dict | None = None) -> pd.DataFrame:
        """One unit vector a row; rows with the columns of `INPUT_SCHEMA`."""
        return self.answer(_received(model_input, self.input_schema)).to_pandas()


class AskedForItems:
    """The collaborative filter behind MLflow's `predict`: events and long-term interest in, the best items out."""

    depth = 10
    input_schema: ClassVar = INPUT_SCHEMA | {"interest": pl.List(pl.Float32())}
    output_schema: ClassVar = {
        "user_id": pl.String(),
        "item_ids": pl.List(pl.String()),
        "scores": pl.List(pl.Float32()),
    }

    def __init__(self, model: CollaborativeFilter):
        self.model = model

    def answer(self, rows: pl.DataFrame) -> pl.DataFrame:
        from pipeline.models.recommender import top_k

        rows = rows.unique("user_id", keep="last", maintain_order=True)
        histories = _histories(rows, self.model.catalogue, self.model.event_types)
        vectors = np.array(rows.sort("user_id")["interest"].to_list(), dtype=np.float32)
        last = EPOCH + timedelta(microseconds=int(histories.times.max(initial=0)) + 1)
        items, scores = top_k(self.model.scores(histories, last, lti=vectors), self.depth, histories)
        ids = np.array(self.model.catalogue.item_ids, dtype=object)
        kept = items >= FIRST_ITEM
        found = {
            "user_id": histories.user_ids.tolist(),
            "item_ids": [ids[row[keep]].tolist() for row, keep in zip(items, kept, strict=True)],
            "scores": [row[keep].tolist() for row, keep in zip(scores, kept, strict=True)],
        }
        return rows.select("user_id").join(pl.DataFrame(found, self.output_schema), on="user_id", how="left")

    def predict(self, model_input: pd.DataFrame, params: dict | None = None) -> pd.DataFrame:
        """Up to `depth` items a row that the user has not had; rows with the columns of `input_schema`."""
        return self.answer(_received(model_input, self.input_schema)).to_pandas()


def load_asked(folder: Path) -> AskedForInterest | AskedForItems:
    """Read a saved model by what its folder says that it is. Its files must have been checked."""
    from pipeline.models.collaborative_filter import FACTS, CollaborativeFilter
    from pipeline.models.interest_evolution import InterestEvolutionModel

    if (folder / FACTS).is_file():
        return AskedForItems(CollaborativeFilter.load(folder))
    return AskedForInterest(InterestEvolutionModel.from_pretrained(folder))


def _load_pyfunc(path: str) -> AskedForInterest | AskedForItems:
    """MLflow's entry. Raises UnsafeModel for a changed or unknown file."""
    check_files(Path(path))
    return load_asked(Path(path))


def example_histories(histories: Histories, catalogue: Catalogue) -> Histories:
    """A few histories that are nobody's, up to the newest event: an example is kept with the model, for ever."""
    users, events = EXAMPLE_USERS, min(EXAMPLE_EVENTS, catalogue.num_items - FIRST_ITEM)
    places = np.arange(users * events)
    newest = int(histories.times.max(initial=0))
    hour = timedelta(hours=1) // timedelta(microseconds=1)
    return Histories(
        np.array([f"example-{position}" for position in range(users)], dtype=object),
        np.arange(users + 1, dtype=np.int64) * events,
        (FIRST_ITEM + places % (catalogue.num_items - FIRST_ITEM)).astype(np.int32),
        (1 + places % len(histories.event_types)).astype(np.int16),
        newest - hour * (events - 1 - places % events).astype(np.int64),
        histories.event_types,
    )


def example_rows(histories: Histories, catalogue: Catalogue) -> pl.DataFrame:
    """`example_histories` as rows of `INPUT_SCHEMA`."""
    some = example_histories(histories, catalogue)
    ids, types = np.array(catalogue.item_ids, dtype=object), np.array(["", *histories.event_types], dtype=object)
    rows = [
        (f"example-{position}", ids[items].tolist(), types[kinds].tolist(), times.tolist())
        for position in range(some.num_users)
        for items, kinds, times in [some.user(position)]
    ]
    return pl.DataFrame(rows, INPUT_SCHEMA, orient="row")


def save_example(folder: Path, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Ask the model in `folder` for `rows`, keep question and answer beside it, and return both."""
    answer = load_asked(folder).answer(rows)
    (folder / EXAMPLE).write_text(json.dumps({"rows": rows.to_dicts(), "answer": answer.to_dicts()}), encoding="utf-8")
    return rows, answer


def repeat_example(folder: Path) -> None:
    """Raise UnsafeModel unless the model in `folder` loads and answers its example as it did when it was saved."""
    check_files(folder)
    asked = load_asked(folder)
    example = json.loads((folder / EXAMPLE).read_text(encoding="utf-8"))
    answer = asked.answer(pl.DataFrame(example["rows"], asked.input_schema))
    expected = pl.DataFrame(example["answer"], asked.output_schema)
    numbers = next(name for name, dtype in asked.output_schema.items() if dtype == pl.List(pl.Float32()))
    if not np.allclose(answer[numbers].explode(), expected[numbers].explode(), atol=TOLERANCE, equal_nan=False):
        raise UnsafeModel(f"The model in {folder} does not answer its own example as it did when it was trained.")


def check_in_fresh_process(folder: Path) -> str | None:
    """Repeat the example in a new interpreter; None when all is well, else why the model may not be promoted.

    Raises:
        EngineFailure: the process was killed or took too long, which says nothing about the model.
    """
    command = [sys.executable, "-m", LOADER, str(folder)]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=FRESH_PROCESS_S
        )
    except subprocess.TimeoutExpired as error:
        raise EngineFailure(
            f"Loading {folder} took more than {FRESH_PROCESS_S} seconds. Nothing was promoted; run the gate again."
        ) from error
    if done.returncode == 0:
        return None
    lines = [line for line in done.stderr.strip().splitlines() if line.strip()] or ["no message"]
    if done.returncode == UnsafeModel.exit_code:
        return lines[-1]
    raise EngineFailure(
        f"The process that loads {folder} ended with code {done.returncode}: {lines[-1]}. "
        "Nothing was promoted; run the gate again."
    )


def _received(given: pd.DataFrame, schema: dict[str, pl.DataType]) -> pl.DataFrame:
    """pandas rows, whose lists may be arrays, as rows of `schema`."""
    columns = {
        name: pl.Series(name, [v if isinstance(v, str) else list(v) for v in given[name]], dtype=dtype)
        for name, dtype in schema.items()
    }
    return pl.DataFrame(columns)


def _histories(rows: pl.DataFrame, catalogue: Catalogue, event_types: tuple[str, ...]) -> Histories:
    """Sorted by user id; of several rows of a user the last one counts."""
    rows = rows.unique("user_id", keep="last", maintain_order=True).with_columns(
        pl.col("event_times").cast(pl.List(pl.Datetime("us", "UTC"))),
        event_timestamp=pl.lit(EPOCH),
        created=pl.lit(EPOCH),
    )
    return Histories.from_sequences(rows, catalogue, event_types)


def main(arguments: list[str]) -> int:
    """Exit code 0 when the example is repeated, 6 with a line on standard error when it is not."""
    try:
        repeat_example(Path(arguments[0]))
    except MemoryError:
        raise
    except Exception as error:
        print(f"{type(error).__name__}: {error}".replace("\n", " "), file=sys.stderr)
        return UnsafeModel.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
