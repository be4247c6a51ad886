"""The interest model: what it may look at, what its answers depend on, and that it is the same after a save."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import torch

from pipeline.errors import BadSetting, UnsafeModel
from pipeline.features.histories import FIRST_ITEM, UNKNOWN, Catalogue, Histories
from pipeline.models.encoders import gap_buckets, gaps_before
from pipeline.models.interest_config import InterestEvolutionConfig
from pipeline.models.interest_evolution import InterestEvolutionModel
from pipeline.models.losses import (
    LossBalance,
    item_cross_entropy,
    log_normaliser,
    mix_cross_entropy,
    sampled_cross_entropy,
)

AS_OF = datetime(2026, 1, 1, tzinfo=UTC)


def test_vectors_have_unit_length_and_depend_on_the_newest_events_only(interest_world):
    model, histories = interest_world.model(), interest_world.histories
    vectors = model.encode(histories)
    assert vectors.dtype == np.float32 and vectors.shape == (histories.num_users, 16)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert np.array_equal(model.encode(histories.last(12)), vectors)
    assert not np.allclose(model.encode(histories.last(2)), vectors)


def test_scores_are_finite_but_for_padding_and_the_unknown_item(interest_world):
    scores = interest_world.model().scores(interest_world.histories, AS_OF)
    assert scores.shape == (10, 22) and scores.dtype == np.float32
    assert np.isneginf(scores[:, :FIRST_ITEM]).all() and np.isfinite(scores[:, FIRST_ITEM:]).all()


def test_a_user_without_events_is_scored_by_what_is_popular(interest_world):
    model = interest_world.model()
    with torch.no_grad():
        for head in (model.heads.next_trend, model.heads.long_term_trend):
            head.copy_(torch.tensor([0.0, 1.0]))
    scores = model.scores(interest_world.histories.take([0]), AS_OF)[0]
    expected = model.trend[1].numpy()
    assert np.array_equal(np.argsort(-scores[FIRST_ITEM:]), np.argsort(-expected[FIRST_ITEM:]))


def test_an_item_that_was_never_trained_is_scored_by_its_text_alone(interest_world):
    model, text = interest_world.model(), interest_world.text
    cold = interest_world.catalogue.num_items - 1
    model.trend.zero_()
    with torch.no_grad():
        model.text_vectors[cold] = model.text_vectors[5]
        before = model.scores(interest_world.histories, AS_OF)
        model.item_id.weight[cold] += 10.0                           # an id part that says nothing must not be heard
        assert np.array_equal(before, model.scores(interest_world.histories, AS_OF))
        model.item_id.weight[5] = 0.0                                # now item 5 is its text alone as well
    after = model.scores(interest_world.histories, AS_OF)
    assert np.allclose(after[:, cold], after[:, 5], atol=1e-5)
    assert not np.allclose(after[:, cold], after[:, 6], atol=1e-2) and text.any()


def test_what_is_popular_can_be_told_without_a_new_space(interest_world):
    model = interest_world.model()
    space, vectors = model.name_space(), model.encode(interest_world.histories)
    before = model.scores(interest_world.histories, AS_OF)
    last = datetime.fromtimestamp(int(interest_world.histories.times.max()) / 1e6, UTC)
    model.observe(interest_world.histories, last + timedelta(days=1))
    assert not np.allclose(before[:, 2:], model.scores(interest_world.histories, AS_OF)[:, 2:])
    assert np.array_equal(vectors, model.encode(interest_world.histories))
    assert model.name_space() == space and model.config.trend_as_of


def test_a_space_is_named_by_every_weight(interest_world):
    model = interest_world.model()
    names = {model.name_space()}
    with torch.no_grad():
        model.gap.weight[0, 0] += 1e-3
    names.add(model.name_space())
    model.config.text_space_id = "another"
    names.add(model.name_space())
    assert len(names) == 3


def test_a_saved_model_answers_bit_for_bit_like_the_one_in_memory(interest_world, tmp_path):
    model, histories = interest_world.model(), interest_world.histories
    model.name_space()
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors", "catalogue.json"}
    loaded = InterestEvolutionModel.from_pretrained(tmp_path)
    assert np.array_equal(loaded.encode(histories), model.encode(histories))
    assert np.array_equal(loaded.scores(histories, AS_OF), model.scores(histories, AS_OF))
    assert np.array_equal(loaded.category_mix(histories), model.category_mix(histories))
    assert loaded.catalogue == model.catalogue
    assert loaded.config.own_fields() == model.config.own_fields()


@pytest.mark.parametrize("damage", ["no catalogue", "other catalogue", "no weights", "cut weights", "no json"])
def test_a_damaged_folder_is_refused(interest_world, tmp_path, damage):
    interest_world.model().save_pretrained(tmp_path)
    catalogue, weights = tmp_path / "catalogue.json", tmp_path / "model.safetensors"
    if damage == "no catalogue":
        catalogue.unlink()
    elif damage == "other catalogue":
        catalogue.write_text(json.dumps({"item_ids": ["x"], "titles": ["x"], "categories": [[]]}))
    elif damage == "no weights":
        weights.unlink()
    elif damage == "cut weights":
        weights.write_bytes(weights.read_bytes()[:1000])
    else:
        catalogue.write_text("{")
    with pytest.raises(UnsafeModel, match=str(tmp_path)):
        InterestEvolutionModel.from_pretrained(tmp_path)


def test_a_field_that_no_model_reads_is_refused():
    assert InterestEvolutionConfig.changed({"dim": 32}).dim == 32
    with pytest.raises(BadSetting, match=r"no field width.*batches_an_epoch"):
        InterestEvolutionConfig.changed({"width": 32})


def test_an_encoder_that_does_not_exist_is_refused_by_name(interest_world):
    with pytest.raises(BadSetting, match=r"no encoder 'mamba'.*transformer, gru, lstm, language"):
        interest_world.model(encoder="mamba")


def test_a_comparison_on_another_catalogue_is_refused(interest_world):
    model = interest_world.model()
    assert model.fit(interest_world.histories, interest_world.catalogue, AS_OF) is model
    with pytest.raises(ValueError, match="another catalogue"):
        model.fit(interest_world.histories, Catalogue.of([("z", "z", ())]), AS_OF)


def test_unknown_items_are_read_without_an_error_and_count_as_events(interest_world):
    model, histories = interest_world.model(), interest_world.histories
    strange = replace(histories, items=np.full_like(histories.items, UNKNOWN))
    assert np.isfinite(model.encode(strange)).all()
    assert not np.allclose(model.encode(strange)[1:], model.encode(histories)[1:])


def test_no_user_gives_an_empty_answer(interest_world):
    nobody: Histories = interest_world.histories.take([])
    assert interest_world.model().encode(nobody).shape == (0, 16)
    assert interest_world.model().scores(nobody, AS_OF).shape == (0, 22)


def test_gaps_fall_into_buckets_by_powers_of_two():
    seconds = torch.tensor([0, 1, 2, 3, 7, 86_400, 10**12]) * 1_000_000
    assert gap_buckets(seconds, 32).tolist() == [0, 1, 1, 2, 3, 16, 31]
    assert gaps_before(torch.tensor([[5, 7, 7, 3]])).tolist() == [[0, 2, 0, 0]]


def softmax_parts(rows: int, candidates: int) -> tuple[torch.Tensor, ...]:
    """Queries, candidates and offsets of two groups in double precision, and the rows' groups."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((rows, 3), (candidates, 3), (2, candidates))
    parts = [torch.randn(*shape, generator=generator, dtype=torch.double, requires_grad=True) for shape in shapes]
    return (*parts, torch.arange(rows) % 2)


def test_the_normaliser_and_its_gradients_are_those_of_the_formula():
    queries, candidates, offsets, groups = softmax_parts(5, 7)
    hidden = torch.tensor([0, 0, 3]), torch.tensor([1, 6, 2])

    def plain(queries, candidates, offsets):
        logits = queries @ candidates.T + offsets[groups]
        return logits.index_put(hidden, torch.tensor(-torch.inf, dtype=torch.double)).logsumexp(dim=1)

    leaves, weights = (queries, candidates, offsets), torch.arange(1.0, 6.0, dtype=torch.double)
    expected, found = plain(*leaves), log_normaliser(*leaves, groups, hidden)
    assert torch.allclose(found, expected)
    for own, other in zip(torch.autograd.grad(found @ weights, leaves), torch.autograd.grad(expected @ weights, leaves),
                          strict=True):
        assert torch.allclose(own, other)


def test_a_row_whose_every_candidate_is_left_out_teaches_nothing():
    queries, candidates, offsets, groups = softmax_parts(1, 2)
    rest = log_normaliser(queries, candidates, offsets, groups, (torch.tensor([0, 0]), torch.tensor([0, 1])))
    loss = sampled_cross_entropy(torch.zeros(1, 1, dtype=torch.double), rest)
    loss.sum().backward()
    assert loss.item() == 0.0
    assert all((part.grad == 0.0).all() for part in (queries, candidates, offsets))


def test_the_full_softmax_is_the_textbook_one():
    queries, candidates, offsets, groups = softmax_parts(5, 7)
    logits = queries @ candidates.T + offsets[groups]
    targets = torch.tensor([[0, 3], [3, 1], [6, 6], [2, 5], [2, 4]])
    normaliser = log_normaliser(queries, candidates, offsets, groups)
    expected = [torch.nn.functional.cross_entropy(logits, column, reduction="none") for column in targets.T]
    assert torch.allclose(item_cross_entropy(logits.gather(1, targets[:, :1]), normaliser), expected[0])
    assert torch.allclose(item_cross_entropy(logits.gather(1, targets), normaliser), (expected[0] + expected[1]) / 2)


def test_sampled_softmax_over_every_item_is_the_full_softmax():
    queries, candidates, offsets, groups = softmax_parts(4, 6)
    targets = torch.tensor([[1], [5], [0], [3]])
    positives = (queries @ candidates.T + offsets[groups]).gather(1, targets)
    rest = log_normaliser(queries, candidates, offsets, groups, (torch.arange(4), targets[:, 0]))
    whole = log_normaliser(queries, candidates, offsets, groups)
    assert torch.allclose(sampled_cross_entropy(positives, rest), item_cross_entropy(positives, whole))


def test_a_perfect_category_mix_costs_nothing():
    mix = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    assert torch.allclose(mix_cross_entropy((mix + 1e-9).log(), mix), torch.zeros(2), atol=1e-6)
    assert (mix_cross_entropy(torch.zeros(2, 3), mix) > 0.1).all()


def test_losses_are_added_by_weight_or_by_learned_uncertainty():
    losses = {"a": torch.tensor(2.0), "b": torch.tensor(3.0)}
    assert LossBalance({"a": 1.0, "b": 0.5}, learned=False)(losses).item() == 3.5
    learned = LossBalance({"a": 1.0, "b": 0.0}, learned=True)
    learned(losses).backward()
    assert learned.log_variance.grad.tolist() == [-1.5, 0.0]


def test_before_it_has_learned_the_forecast_mix_is_what_was_had(interest_world):
    model, histories = interest_world.learner(), interest_world.histories
    found = model.category_mix(histories)
    shares = interest_world.catalogue.category_matrix()
    columns = [interest_world.catalogue.category_names.index(name) for name in model.config.categories]
    for user in range(histories.num_users):
        own = histories.last(model.config.history_length).user(user)[0]
        had = shares[own][:, columns].sum(axis=0)
        expected = (had + 1 / len(columns)) / (had.sum() + 1)
        np.testing.assert_allclose(found[user], expected / expected.sum(), atol=1e-6)
