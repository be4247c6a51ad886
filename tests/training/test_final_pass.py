"""The final pass: what is served also knows the validation window; what was chosen on it did not."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import torch

from pipeline.features.histories import FIRST_ITEM
from pipeline.features.training_rows import build_training_rows
from pipeline.models.interest_evolution import InterestEvolutionModel
from pipeline.models.saved_interest import EARLIER_FILE
from pipeline.training.epochs import TrainingRun
from pipeline.training.final_pass import final_pass, rows_that_reach
from pipeline.training.loop import train_interest_model

AS_OF = datetime(2026, 1, 25, tzinfo=UTC)
RUN = TrainingRun(max_epochs=3, patience=9, max_seconds=1e6)


@pytest.fixture(scope="module")
def trained(rounds):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield train_interest_model(*rounds.inputs, rounds.config(final_share=1.0), RUN)
    torch.set_num_threads(before)


def test_without_it_the_model_is_the_one_from_before_it(rounds, trained):
    alone = train_interest_model(*rounds.inputs, rounds.config(final_share=0.0), RUN)
    earlier = trained.model.before_validation
    assert alone.model.before_validation is alone.model and earlier is not trained.model
    assert np.array_equal(alone.model.encode(rounds.train), earlier.encode(rounds.train))
    assert not np.allclose(trained.model.encode(rounds.train), earlier.encode(rounds.train))
    assert trained.steps > alone.steps and trained.tokens > alone.tokens


def test_it_learns_what_only_the_window_says(rounds):
    """In the window everybody turns to one item."""
    turned = replace(rounds.validation, items=np.full_like(rounds.validation.items, FIRST_ITEM))
    config = rounds.config(final_share=1.0)
    model = train_interest_model(rounds.train, turned, rounds.catalogue, rounds.text, config, RUN).model
    found = []
    for each in (model, model.before_validation):
        each.trend.zero_()
        found.append(each.scores(rounds.train, AS_OF)[:, FIRST_ITEM].mean())
    assert found[0] > found[1] + 0.3


def test_only_rows_that_reach_the_window_are_read(rounds):
    rows = build_training_rows(rounds.train, rounds.catalogue.num_items, 3, 5, 3)
    border = int(np.quantile(rounds.train.times, 0.9))
    kept = rows_that_reach(rows, border)
    newest = rounds.train.times[rows.ends - 1]
    assert 0 < kept.num_rows < rows.num_rows
    assert kept.num_rows == (newest >= border).sum() and (rounds.train.times[kept.ends - 1] >= border).all()


def test_the_earlier_model_is_saved_and_loaded_with_the_final_one(rounds, trained, tmp_path):
    trained.model.save_pretrained(tmp_path)
    assert (tmp_path / EARLIER_FILE).exists()
    loaded = InterestEvolutionModel.from_pretrained(tmp_path)
    for own, other in ((loaded, trained.model), (loaded.before_validation, trained.model.before_validation)):
        assert np.array_equal(own.encode(rounds.train), other.encode(rounds.train))
        assert own.config.space_id == other.config.space_id
    assert not any("earlier" in name for name in loaded.state_dict())


def test_a_resumed_run_makes_the_same_final_pass(rounds, trained, tmp_path):
    config = rounds.config(final_share=1.0)
    train_interest_model(*rounds.inputs, config, replace(RUN, max_epochs=1, checkpoint_dir=tmp_path))
    resumed = train_interest_model(*rounds.inputs, config, replace(RUN, checkpoint_dir=tmp_path))
    assert resumed.model.config.space_id == trained.model.config.space_id


@pytest.mark.parametrize(("cpu", "steps"), [(None, 5), (0.0, 1)])
def test_it_makes_its_steps_or_ends_with_its_cpu_seconds(cpu, steps):
    torch.manual_seed(0)
    rates = []

    class Slope(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.place = torch.nn.Parameter(torch.tensor(1.0))

        def forward(self, batch, generator):
            rates.append(self.place.item())
            return {"loss": self.place * batch["by"]}

    made = final_pass(
        Slope(), lambda epoch: iter([{"by": torch.tensor(1.0)}] * 2), steps=5, peak=0.1, weight_decay=0.0,
        max_grad_norm=9.0, seed=1, max_cpu_seconds=cpu,
    )
    assert made == steps
    sizes = -np.diff(rates)
    assert (np.diff(sizes) < 0).all()                                       # the rate falls with every step
