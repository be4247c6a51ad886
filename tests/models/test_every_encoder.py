"""What every encoder promises, whatever is inside: causal, the same alone, the same after a save, and it learns."""

from datetime import UTC, datetime

import numpy as np
import pytest
import torch

from pipeline.errors import BadSetting
from pipeline.models.encoders import ENCODERS
from pipeline.models.interest_evolution import InterestEvolutionModel

AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
ARMS = ("transformer", "gru", "lstm", "language: bert", "language: gpt2")


@pytest.fixture(scope="module", params=ARMS)
def changes(request, language_models) -> dict[str, object]:
    encoder, _, kind = request.param.partition(": ")
    return {"encoder": encoder, **({"language_model": language_models[kind], "title_tokens": 4} if kind else {})}


@pytest.fixture(scope="module")
def model(interest_world, changes) -> InterestEvolutionModel:
    return interest_world.model(**changes)


def test_every_encoder_that_can_be_named_is_tried_here():
    assert {arm.partition(":")[0] for arm in ARMS} == set(ENCODERS)


@pytest.mark.parametrize("changed", ["items", "types", "times"])
def test_a_change_of_the_future_leaves_every_earlier_state_as_it_was(model, events, changed):
    table = model.item_table()
    values = events[changed].clone()
    values[:, 7:] = values[:, 7:] * 3 if changed == "times" else (values[:, 7:] + 1) % 3
    before, after = model.states(table, **events), model.states(table, **events | {changed: values})
    assert torch.equal(before[:, :7], after[:, :7])
    assert not torch.allclose(before[:, 7:], after[:, 7:])


def test_every_state_knows_the_events_before_it(model, events):
    table = model.item_table()
    changed = events["items"].clone()
    changed[:, 0] = 2 + (changed[:, 0] - 1) % 20
    before, after = model.states(table, **events), model.states(table, **events | {"items": changed})
    assert (before - after).abs().amax(dim=-1).min() > 0


def test_padding_changes_nothing(model, events):
    table, short = model.item_table(), {name: value[:, :7] for name, value in events.items()}
    longer = {name: torch.nn.functional.pad(value, (0, 5)) for name, value in short.items()}
    assert torch.allclose(model.states(table, **short), model.states(table, **longer)[:, :7], atol=1e-5)


@pytest.mark.parametrize("layers", [1, 2])
def test_the_newest_states_alone_are_those_of_all(interest_world, changes, events, layers):
    model = interest_world.model(**changes, layers=layers)
    newest = torch.arange(len(events["items"])) % events["items"].shape[1]
    every = model.states(model.item_table(), **events)
    alone = model.states(model.item_table(), **events, newest=newest)
    assert torch.allclose(alone[:, 0], every[torch.arange(len(newest)), newest], atol=1e-5)


def test_a_users_vector_is_the_same_bits_whoever_else_is_asked_for(interest_world, model):
    together = model.encode(interest_world.histories)
    assert np.allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    for position in range(interest_world.histories.num_users):
        assert np.array_equal(model.encode(interest_world.histories.take([position]))[0], together[position])


def test_a_saved_model_answers_bit_for_bit_like_the_one_in_memory(interest_world, model, tmp_path):
    model.name_space()
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors", "catalogue.json"}
    loaded = InterestEvolutionModel.from_pretrained(tmp_path)
    histories = interest_world.histories
    assert np.array_equal(loaded.encode(histories), model.encode(histories))
    assert np.array_equal(loaded.scores(histories, AS_OF), model.scores(histories, AS_OF))
    assert loaded.name_space() == model.name_space()
    assert loaded.config.own_fields() == model.config.own_fields()


def test_some_steps_make_the_loss_fall(interest_world, changes, events):
    losses = interest_world.losses_of_steps(events, **changes)
    assert losses[-1] < 0.8 * losses[0]


class TestALanguageModel:
    @pytest.fixture(params=["bert", "gpt2"])
    def fresh(self, request, interest_world, language_models) -> InterestEvolutionModel:
        config = interest_world.config(encoder="language", language_model=language_models[request.param])
        return InterestEvolutionModel.for_catalogue(config, interest_world.catalogue, interest_world.text, seed=3)

    def test_starts_from_its_pretrained_weights_which_stand_still(self, fresh):
        from transformers import AutoModel

        pretrained = AutoModel.from_pretrained(fresh.config.language_model).state_dict()
        own = {name.replace(".base_layer", ""): value for name, value in fresh.encoder.language.state_dict().items()}
        assert all(torch.equal(own[name], value) for name, value in pretrained.items())
        learned = [name for name, value in fresh.encoder.language.named_parameters() if value.requires_grad]
        assert learned and all("lora_" in name for name in learned)
        assert all((value == 0).all() for name, value in own.items() if "lora_B" in name)

    def test_reads_the_titles(self, fresh, interest_world):
        fresh.eval()
        before = fresh.encode(interest_world.histories)
        fresh.encoder.titles[:] = fresh.encoder.titles.roll(1, dims=0)
        assert not np.allclose(before[1:], fresh.encode(interest_world.histories)[1:], atol=1e-4)

    def test_that_cannot_read_so_much_is_refused_with_what_it_can(self, interest_world, language_models):
        changes = {"encoder": "language", "language_model": language_models["bert"], "history_length": 60}
        with pytest.raises(BadSetting, match=r"history_length.*128.*Set it to 14"):
            interest_world.model(**changes)

    def test_that_does_not_exist_is_refused_by_name(self, interest_world, tmp_path):
        with pytest.raises(BadSetting, match="language_model"):
            interest_world.model(encoder="language", language_model=str(tmp_path))
