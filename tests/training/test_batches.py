"""Batches: every row once, within the budget, the same ones for the same seed, and labels that are true."""

import numpy as np
import pytest
import torch

from pipeline.features.training_rows import build_training_rows
from pipeline.training.batches import RowBatches, batches_of_rows
from pipeline.training.negatives import SharedNegatives


@pytest.fixture(scope="module")
def batches(rounds) -> RowBatches:
    rows = build_training_rows(rounds.train, rounds.catalogue.num_items, 12, horizon_days=5, period_days=3)
    return RowBatches(rows, rounds.catalogue.category_matrix(), 64, 3, seed=1, device=torch.device("cpu"))


def test_every_row_comes_once_and_no_batch_exceeds_its_budget():
    lengths = np.random.default_rng(0).integers(1, 50, 300)
    lengths[7] = 900
    found = batches_of_rows(lengths, 400, np.random.default_rng(1))
    assert sorted(np.concatenate(found).tolist()) == list(range(300))
    for members in found:
        assert len(members) * lengths[members].max() <= 400 or members.tolist() == [7]
    padded = sum(len(members) * lengths[members].max() for members in found)
    assert padded < 1.15 * lengths.sum()


def test_an_epoch_is_the_same_each_time_and_another_one_differs(batches):
    first, again = list(batches.epoch(2)), list(batches.epoch(2))
    assert all(torch.equal(one[name], two[name]) for one, two in zip(first, again, strict=True) for name in one)
    other = list(batches.epoch(3))
    assert any(one["items"].shape != two["items"].shape or not torch.equal(one["items"], two["items"])
               for one, two in zip(first, other, strict=False))


def test_labels_are_what_the_history_says(batches):
    rows, histories = batches.rows, batches.rows.histories
    position_of = {(int(t), int(i)): p for p, (t, i) in enumerate(zip(histories.times, histories.items, strict=True))}
    checked = 0
    for batch in batches.epoch(0):
        numpy = {name: value.numpy() for name, value in batch.items()}
        for row, step in zip(*np.nonzero(numpy["items"]), strict=True):
            at = position_of[numpy["times"][row, step], numpy["items"][row, step]]
            last = at + 1 == histories.offsets[histories.owners[at] + 1]
            assert numpy["next_items"][row, step] == (0 if last else histories.items[at + 1])
            assert numpy["next_types"][row, step] == (0 if last else histories.types[at + 1])
            future = histories.items[rows.future_starts[at] : rows.horizon_ends[at]]
            assert set(numpy["future_items"][row, step]) <= (set(future) or {0})
            period = histories.items[rows.future_starts[at] : rows.period_ends[at]]
            mix = batches.category_matrix[period].mean(axis=0) if len(period) else np.zeros(4)
            assert np.allclose(numpy["category_mix"][row, step], mix, atol=1e-6)
            checked += 1
    assert checked == histories.num_events


def test_what_the_user_had_is_no_label_where_new_items_are_asked_for(rounds):
    rows = build_training_rows(rounds.train, rounds.catalogue.num_items, 30, 30, 3, new_items_only=True)
    batches = RowBatches(rows, rounds.catalogue.category_matrix(), 64, 3, seed=1, device=torch.device("cpu"))
    asked = 0
    for batch in batches.epoch(0):
        for row, step in batch["items"].nonzero().tolist():
            labels = {int(batch["next_items"][row, step]), *batch["future_items"][row, step].tolist()} - {0}
            assert not labels & set(batch["items"][row, : step + 1].tolist())
            asked += len(labels)
    assert asked


def test_padding_has_no_label(batches):
    for batch in batches.epoch(0):
        padding = batch["items"] == 0
        assert (batch["next_items"][padding] == 0).all() and (batch["future_items"][padding] == 0).all()
        assert (batch["category_mix"][padding] == 0).all()


def test_negatives_are_drawn_as_often_as_log_q_says():
    items = np.repeat(np.arange(2, 8), [100, 50, 25, 10, 1, 0])
    source = SharedNegatives(items, num_items=8, power=0.5, samples=1000)
    counts = np.zeros(8)
    for seed in range(100):
        items, offsets = source.draw(np.random.default_rng(seed))
        assert len(set(items)) == len(items) and offsets.dtype == np.float32
        counts[items] += np.exp(offsets + source.log_q[items]) / 100             # so many samples each stands for
    assert counts[:2].sum() == 0 and np.isneginf(source.log_q[:2]).all()
    assert np.allclose(counts[2:], np.exp(source.log_q[2:]), rtol=0.1)
