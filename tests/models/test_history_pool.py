"""The pooled history: sums over the past, which grow with it, of items that were trained."""

import torch

from pipeline.models.history_pool import HistoryPool


def pool_of(num_items: int = 8, dim: int = 3) -> tuple[HistoryPool, torch.Tensor]:
    torch.manual_seed(1)
    return HistoryPool(num_items, dim).eval(), torch.ones(num_items, dtype=torch.bool)


def test_a_plain_sum_is_divided_by_the_root_of_one_more_than_its_events():
    pool, trained = pool_of()
    with torch.no_grad():
        pool.mix[1:] = 0.0
        pool.mix[0] = 1.0
    items = torch.tensor([[2, 5, 2]])
    expected = pool.vectors(items)[0].cumsum(dim=0) / torch.tensor([2.0, 3.0, 4.0]).sqrt()[:, None]
    assert torch.allclose(pool(items, trained, 0.0)[0], expected, atol=1e-6)


def test_what_comes_later_changes_nothing_before_it():
    pool, trained = pool_of()
    one, two = torch.tensor([[2, 3, 4, 5]]), torch.tensor([[2, 3, 6, 7]])
    before, after = pool(one, trained, 0.0), pool(two, trained, 0.0)
    assert torch.equal(before[:, :2], after[:, :2]) and not torch.allclose(before[:, 2:], after[:, 2:])


def test_an_item_that_nobody_had_in_training_says_nothing():
    pool, trained = pool_of()
    trained[4] = False
    assert not pool(torch.tensor([[4]]), trained, 0.0).any()
