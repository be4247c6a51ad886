"""What other teams get from MLflow: a model that loads without executing anything, and says what the platform says."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipeline.errors import UnsafeModel
from pipeline.serving.registered_model import LOADER, _load_pyfunc, check_in_fresh_process, repeat_example
from pipeline.stores.registry import Registry

ROWS = pl.DataFrame(
    {
        "user_id": ["b", "a"],
        "item_ids": [["i001", "i002", "i003"], ["i101", "never seen"]],
        "event_types": [["view"] * 3, ["view", "unheard of"]],
        "event_times": [[1_758_000_000_000_000 + n for n in range(3)], [1_758_000_000_000_000] * 2],
    }
)


def folder_of(settings, model: str) -> Path:
    registry = Registry(settings)
    return registry.fetch(registry.champion(model))


def test_mlflow_loads_the_interest_model_and_gets_unit_vectors_in_the_order_of_the_rows(trained):
    import mlflow.pyfunc

    loaded = mlflow.pyfunc.load_model(str(folder_of(trained, "interest_evolution").parents[1]))
    both = loaded.predict(ROWS.to_pandas())
    alone = loaded.predict(ROWS.tail(1).to_pandas())
    assert both["user_id"].tolist() == ["b", "a"]
    np.testing.assert_allclose(np.linalg.norm(both["vector"].tolist(), axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(both["vector"][1], alone["vector"][0], atol=1e-6)


def test_mlflow_loads_the_filter_and_gets_items_that_the_user_has_not_had(trained):
    import mlflow.pyfunc

    loaded = mlflow.pyfunc.load_model(str(folder_of(trained, "collaborative_filter").parents[1]))
    rows = ROWS.with_columns(interest=pl.lit([0.25] * 16, pl.List(pl.Float32)))
    answer = pl.from_pandas(loaded.predict(rows.to_pandas()))
    assert answer["item_ids"].list.len().to_list() == [10, 10]
    assert not {"i001", "i002", "i003"} & set(answer["item_ids"][0])


@pytest.mark.parametrize("model", ["interest_evolution", "collaborative_filter"])
def test_a_saved_model_repeats_its_example_in_a_process_of_its_own(trained, model):
    assert check_in_fresh_process(folder_of(trained, model)) is None


def test_a_model_that_answers_otherwise_than_it_did_is_refused(trained, tmp_path):
    from pipeline.stores.model_files import write_manifest

    folder = tmp_path / "model"
    shutil.copytree(folder_of(trained, "interest_evolution"), folder)
    example = (folder / "example.json").read_text()
    (folder / "example.json").write_text(example.replace("0.", "0.9", 1))
    write_manifest(folder)
    with pytest.raises(UnsafeModel, match="does not answer its own example"):
        repeat_example(folder)


def test_mlflows_own_way_in_refuses_a_pickle_too(trained, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(folder_of(trained, "interest_evolution"), folder)
    (folder / "model.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(UnsafeModel, match=r"model\.pkl"):
        _load_pyfunc(str(folder))


def test_a_folder_without_a_model_ends_the_process_with_code_6_and_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", LOADER, str(tmp_path)], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert done.returncode == 6
    assert done.stderr.strip().splitlines()[-1].startswith("UnsafeModel: ")
