"""Training the interest model: it learns, it is the same twice, and an interruption leaves no trace."""

import functools
import inspect
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import BadSetting
from pipeline.features.histories import FIRST_ITEM, UNKNOWN, Catalogue
from pipeline.models.interest_config import InterestEvolutionConfig
from pipeline.training.device import choose_device
from pipeline.training.epochs import TrainingRun, fit_epochs, learning_rate_at
from pipeline.training.loop import train_interest_model

AS_OF = datetime(2026, 1, 25, tzinfo=UTC)
QUICK = TrainingRun(max_epochs=2, patience=9, max_seconds=1e6)


def weights_of(model) -> dict[str, torch.Tensor]:
    return dict(sorted(model.state_dict().items()))


def equal(one, two) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights_of(one).values(), weights_of(two).values(), strict=True))


@pytest.mark.parametrize("changes", [
    {}, {"encoder": "gru"}, {"item_loss": "sampled", "negatives": 8}, {"item_loss": "gbce", "negatives": 8},
    {"learned_balance": True},
], ids=["transformer", "gru", "sampled softmax", "gbce", "learned balance"])
def test_the_round_that_users_make_is_learned(rounds, changes):
    epochs = {"sampled": 16, "gbce": 24}.get(changes.get("item_loss"), 8)
    trained = train_interest_model(*rounds.inputs, rounds.config(**changes), replace(QUICK, max_epochs=epochs))
    first, last = trained.curves[0], trained.curves[-1]
    assert last["next"] < 0.6 * first["next"]
    assert last["validation_next"] < first["validation_next"] and last["mix"] < first["mix"]
    model = trained.model
    model.config.future_share = 0.0
    best = model.scores(rounds.train, AS_OF).argmax(axis=1)
    position = (rounds.train.items[rounds.train.offsets[1:] - 1] - FIRST_ITEM) % 6
    group = np.arange(24) % 2
    assert (best == FIRST_ITEM + 6 * group + (position + 1) % 6).mean() > 0.8


def test_an_lstm_learns_too(rounds):
    """Slower than the others: its loss falls, on what it has not seen as well."""
    trained = train_interest_model(*rounds.inputs, rounds.config(encoder="lstm"), replace(QUICK, max_epochs=6))
    first, last = trained.curves[0], trained.curves[-1]
    assert last["next"] < 0.7 * first["next"] and last["validation_next"] < 0.9 * first["validation_next"]


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(rounds):
    one, two = (train_interest_model(*rounds.inputs, rounds.config(), QUICK) for _ in range(2))
    assert equal(one.model, two.model) and one.model.config.space_id == two.model.config.space_id
    other = train_interest_model(*rounds.inputs, rounds.config(), replace(QUICK, seed=8))
    assert other.model.config.space_id != one.model.config.space_id


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(rounds, tmp_path):
    whole = train_interest_model(*rounds.inputs, rounds.config(), replace(QUICK, max_epochs=4))
    halted = replace(QUICK, max_epochs=2, checkpoint_dir=tmp_path)
    assert train_interest_model(*rounds.inputs, rounds.config(), halted).stopped_because == "max_epochs"
    resumed = train_interest_model(*rounds.inputs, rounds.config(), replace(halted, max_epochs=4))
    assert equal(whole.model, resumed.model)
    assert [c["loss"] for c in whole.curves] == [c["loss"] for c in resumed.curves]


def test_a_checkpoint_of_other_data_is_not_resumed(rounds, tmp_path):
    run = replace(QUICK, max_epochs=1, checkpoint_dir=tmp_path)
    train_interest_model(*rounds.inputs, rounds.config(), run)
    changed = replace(rounds.train, items=np.roll(rounds.train.items, 1))
    again = train_interest_model(changed, *rounds.inputs[1:], rounds.config(), run)
    fresh = train_interest_model(changed, *rounds.inputs[1:], rounds.config(), replace(run, checkpoint_dir=None))
    assert equal(again.model, fresh.model)


SLOW_RUN = textwrap.dedent("""
    import pickle, sys
    from pathlib import Path
    import torch
    torch.set_num_threads(1)
    from pipeline.training.epochs import TrainingRun
    from pipeline.training.loop import train_interest_model
    inputs, config, folder = pickle.loads(Path(sys.argv[1]).read_bytes())
    run = TrainingRun(max_epochs=400, patience=999, max_seconds=1e6, checkpoint_dir=folder)
    train_interest_model(*inputs, config, run)
""")


@pytest.mark.fault("SIGTERM in training, then resume")
def test_a_run_that_was_terminated_goes_on(rounds, tmp_path):
    import pickle

    checkpoints = tmp_path / "checkpoints"
    (tmp_path / "inputs").write_bytes(pickle.dumps((rounds.inputs, rounds.config(), checkpoints)))
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", SLOW_RUN, str(tmp_path / "inputs")]
    process = subprocess.Popen(command, cwd=root, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": root})
    deadline = time.monotonic() + 120
    while not list(checkpoints.glob("epoch-*/manifest.json")):
        assert process.poll() is None and time.monotonic() < deadline, "no checkpoint appeared"
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) != 0
    done = max(int(path.name[-4:]) for path in checkpoints.glob("epoch-*")) + 1
    run = TrainingRun(max_epochs=done + 2, patience=999, max_seconds=1e6)
    resumed = train_interest_model(*rounds.inputs, rounds.config(), replace(run, checkpoint_dir=checkpoints))
    whole = train_interest_model(*rounds.inputs, rounds.config(), run)
    assert [curve["epoch"] for curve in resumed.curves] == list(range(done + 2))
    assert equal(resumed.model, whole.model)


def test_why_a_run_stopped_is_recorded(rounds):
    def reason(**changes) -> tuple[str, int]:
        run = replace(QUICK, **changes)
        trained = train_interest_model(*rounds.inputs, rounds.config(learning_rate=1e-9), run)
        return trained.stopped_because, len(trained.curves)

    assert reason(max_seconds=1e-9) == ("max_seconds", 1)
    assert reason(max_epochs=1) == ("max_epochs", 1)
    assert reason(max_epochs=30, patience=1)[0] == "patience"


def test_the_weights_of_the_best_epoch_are_kept():
    model = torch.nn.Linear(1, 1, bias=False)
    scores, seen = iter([0.1, 0.9, 0.5, 0.4]), []

    def score(current) -> dict[str, float]:
        seen.append(current.weight.item())
        return {"score": next(scores)}

    fitted = fit_epochs(
        model, lambda epoch: iter([{}]), lambda current, batch, generator: {"loss": current.weight.sum()}, score,
        TrainingRun(max_epochs=9, patience=2), rate=lambda step: 0.1, weight_decay=0.0, max_grad_norm=1.0,
        fingerprint="",
    )
    assert (fitted.best_epoch, fitted.stopped_because) == (1, "patience")
    assert model.weight.item() == seen[1]


def test_a_loss_that_is_not_finite_stops_the_run_with_a_remedy():
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        fit_epochs(
            torch.nn.Linear(1, 1), lambda epoch: iter([{}]), lambda m, b, g: {"loss": m.weight.sum() / 0},
            lambda m: {"score": 0.0}, TrainingRun(), rate=lambda step: 0.1, weight_decay=0.0, max_grad_norm=1.0,
            fingerprint="",
        )


def test_the_learning_rate_rises_in_a_line_and_then_falls():
    rates = [learning_rate_at(step, peak=1.0, warmup_steps=4) for step in range(20)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0] and rates[15] == pytest.approx(0.5)
    assert rates[3:] == sorted(rates[3:], reverse=True)


def test_users_and_items_that_only_validation_knows_are_no_trouble(rounds):
    strangers = replace(rounds.validation, user_ids=np.array([f"w{n:02d}" for n in range(24)], dtype=object))
    unknown = replace(strangers, items=np.full_like(strangers.items, UNKNOWN))
    for validation in (strangers, unknown, strangers.take([])):
        trained = train_interest_model(rounds.train, validation, *rounds.inputs[2:], rounds.config(), QUICK)
        assert np.isfinite(trained.curves[-1]["score"])


def test_a_model_without_text_is_trained(rounds):
    trained = train_interest_model(*rounds.inputs[:3], None, rounds.config(), QUICK)
    assert trained.model.config.text_dim == 0
    assert np.isfinite(trained.model.encode(rounds.train)).all()


def test_an_item_that_nobody_had_is_found_by_its_picture(rounds):
    """Every item of a group looks like the others of it, and so does the new one of the first group."""
    old = rounds.catalogue
    rows = list(zip(old.item_ids, old.titles, old.categories, strict=True))[FIRST_ITEM:]
    catalogue = Catalogue.of([*rows, ("z", "new", ())])
    looks = np.array([[0, 0], [0, 0], *[[1, 0]] * 6, *[[0, 1]] * 6, [1, 0]], dtype=np.float32)
    noise = np.random.default_rng(2).normal(scale=0.1, size=looks.shape).astype(np.float32)
    catalogue = replace(catalogue, vectors={"image": np.where(looks.any(axis=1, keepdims=True), looks + noise, 0.0)})
    config = rounds.config(reads_text=False, item_dropout=0.5)
    trained = train_interest_model(*rounds.inputs[:2], catalogue, None, config, replace(QUICK, max_epochs=8))
    scores = trained.model.scores(rounds.train, AS_OF)
    likes = scores[:, -1] - scores[:, FIRST_ITEM:-1].mean(axis=1)
    assert likes[::2].min() > likes[1::2].max()


CHANGED = {
    "encoder": "gru", "dim": 24, "layers": 2, "heads": 4, "feed_forward": 16, "dropout": 0.5, "history_length": 5,
    "gap_buckets": 3, "item_dropout": 0.6, "horizon_days": 2.0, "period_days": 1.0, "future_samples": 1,
    "future_positions": 0.9, "next_weight": 0.3, "future_weight": 0.1, "mix_weight": 0.7, "type_weight": 0.7,
    "learned_balance": True, "future_share": 0.1, "full_softmax_items": 3, "negatives": 5, "negative_power": 0.9,
    "learning_rate": 0.02, "weight_decay": 0.9, "warmup_steps": 2, "max_grad_norm": 0.01, "tokens_a_batch": 30,
    "batches_an_epoch": 3, "text_space_id": "another", "averaging": 0.0, "final_share": 0.0, "item_start": 0.0,
    "title_tokens": 2, "lora_rank": 3, "item_loss": "gbce", "softmax_rows": 7, "calibration": 0.1,
    "reads_text": False, "reads_modalities": False, "reads_time": False, "reads_trend": False,
    "noise_filter": True, "warm_up_steps": 3, "new_items_only": True, "pools_history": False,
}
FILLED_IN = {"num_items", "event_types", "categories", "text_dim", "modality_dims", "space_id", "trend_as_of",
             "language_config"}
OF_SAMPLES, OF_LANGUAGE = ("negatives", "negative_power", "item_loss"), ("language_model", "title_tokens", "lora_rank")
"""Fields that are read only where others have a certain value."""


def answers(rounds, config: InterestEvolutionConfig) -> tuple:
    trained = train_interest_model(*rounds.inputs, config, replace(QUICK, max_epochs=1))
    return trained.model.scores(rounds.train, AS_OF).tobytes(), trained.model.config.space_id


def others_of(name: str, language_models: dict[str, str]) -> dict[str, object]:
    """What else has to be set so that a field is read."""
    if name in OF_LANGUAGE:
        return {"encoder": "language", "language_model": language_models["bert"]}
    if name == "calibration":
        return {"item_loss": "gbce", "negatives": 4}
    return {"full_softmax_items": 0} if name in OF_SAMPLES else {}


@pytest.fixture(scope="module")
def usual(rounds, language_models):
    @functools.cache
    def found(*others: tuple[str, object]) -> tuple:
        return answers(rounds, rounds.config(**dict(others)))

    return found


@pytest.mark.parametrize("name", sorted({*CHANGED, "language_model"}))
def test_every_field_of_the_configuration_changes_something(rounds, usual, language_models, name):
    others = others_of(name, language_models)
    changed = {**others, name: language_models["gpt2"] if name == "language_model" else CHANGED[name]}
    assert answers(rounds, rounds.config(**changed)) != usual(*others.items())


def test_no_field_is_left_out_of_the_list_above():
    fields = set(inspect.signature(InterestEvolutionConfig.__init__).parameters) - {"self", "kwargs"}
    assert fields == {*CHANGED, *FILLED_IN, "language_model"}


def test_the_device_is_a_gpu_only_where_there_is_one():
    assert choose_device("cpu").type == "cpu"
    if torch.cuda.is_available():
        assert choose_device("auto").type == "cuda"
    else:
        assert choose_device("auto").type == "cpu"
        with pytest.raises(BadSetting, match="PyTorch sees no GPU"):
            choose_device("cuda")
