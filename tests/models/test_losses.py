"""The losses over items: the chunked softmax is the whole one, and gBCE is its formula."""

import pytest
import torch

from pipeline.errors import BadSetting
from pipeline.models.interest_config import InterestEvolutionConfig
from pipeline.models.interest_losses import had_before
from pipeline.models.losses import generalised_binary_cross_entropy, log_normaliser, positive_power


@pytest.mark.parametrize("rows_at_once", [1, 4, 5, 100])
def test_a_softmax_in_chunks_has_the_loss_and_the_gradients_of_the_whole_one(rows_at_once):
    generator = torch.Generator().manual_seed(0)
    shapes = ((11, 3), (7, 3), (2, 7))
    leaves = [torch.randn(*shape, generator=generator, dtype=torch.double, requires_grad=True) for shape in shapes]
    groups, hidden = torch.arange(11) % 2, (torch.tensor([0, 3, 4, 10]), torch.tensor([1, 6, 2, 0]))
    weights = torch.arange(1.0, 12.0, dtype=torch.double)
    whole = log_normaliser(*leaves, groups, hidden)
    chunked = log_normaliser(*leaves, groups, hidden, rows_at_once)
    assert torch.allclose(whole, chunked)
    expected, found = torch.autograd.grad(whole @ weights, leaves), torch.autograd.grad(chunked @ weights, leaves)
    assert all(torch.allclose(one, other) for one, other in zip(expected, found, strict=True))


def test_chunks_keep_the_logits_out_of_memory():
    def kept(rows_at_once: int) -> int:
        sizes = []
        queries, candidates = torch.randn(64, 4, requires_grad=True), torch.randn(500, 4, requires_grad=True)

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            log_normaliser(queries, candidates, torch.zeros(1, 500), torch.zeros(64, dtype=torch.long), None,
                           rows_at_once).sum().backward()
        return max(sizes)

    assert kept(8) <= 64 * 500 / 8


def test_gbce_is_its_formula_and_a_rows_own_positive_is_no_negative():
    positives, negatives = torch.tensor([[0.3], [-1.0]]), torch.tensor([[0.1, 2.0], [-0.5, 0.7]])
    times, hidden = torch.tensor([2.0, 1.0]), (torch.tensor([1]), torch.tensor([0]))
    found = generalised_binary_cross_entropy(positives, negatives, times, hidden, power=0.4)
    log = torch.nn.functional.logsigmoid
    first = -(0.4 * log(torch.tensor(0.3)) + 2 * log(torch.tensor(-0.1)) + log(torch.tensor(-2.0)))
    second = -(0.4 * log(torch.tensor(-1.0)) + log(torch.tensor(-0.7)))
    assert torch.allclose(found, torch.stack([first, second]))


def test_full_calibration_counts_a_positive_by_the_share_that_was_drawn():
    assert positive_power(10, 101, 0.0) == pytest.approx(1.0)
    assert positive_power(10, 101, 1.0) == pytest.approx(0.1)
    assert positive_power(500, 101, 1.0) == 1.0


def test_the_loss_is_chosen_by_the_size_of_the_catalogue_unless_it_is_set():
    assert InterestEvolutionConfig(num_items=2000).chosen_loss == "full"
    assert InterestEvolutionConfig(num_items=2001).chosen_loss == "sampled"
    assert InterestEvolutionConfig(num_items=10, item_loss="gbce").chosen_loss == "gbce"
    with pytest.raises(BadSetting, match=r"no item loss 'hinge'.*full, sampled, gbce"):
        _ = InterestEvolutionConfig(item_loss="hinge").chosen_loss


def test_what_had_been_had_is_left_out_of_the_softmax():
    items = torch.tensor([[2, 3, 2, 4], [5, 6, 0, 0]])
    labelled = torch.tensor([[True, False, True, False], [False, True, False, False]])
    assert had_before(items, labelled).tolist() == [[2, 0, 0, 0], [2, 3, 2, 0], [5, 6, 0, 0]]
