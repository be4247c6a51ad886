"""How strongly the interest may speak: found where it helps, silent where it does not, however sure the filter is."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.models.interest_strength import Asked, fit_strength

USERS, ITEMS = 400, 60


def asked_of(helps: float, sureness: float, seed: int = 4) -> Asked:
    """One wanted item a user, drawn by what a filter and an interest say; the filter's scores are then blown up."""
    draw = torch.Generator().manual_seed(seed)
    known, interest = torch.randn(2, USERS, ITEMS, generator=draw)
    wanted = (known + helps * interest).softmax(dim=1).multinomial(1, generator=draw)[:, 0]
    known = known * sureness
    known[:, 0] = -torch.inf
    amount = torch.rand(USERS, generator=draw) * 3
    return Asked(known, interest, amount, torch.arange(USERS), wanted.clamp(min=1), torch.ones(USERS))


@pytest.mark.parametrize("sureness", [0.5, 1.0, 4.0])
def test_an_interest_that_helps_speaks_in_the_measure_of_the_filters_scores(sureness):
    a, b = fit_strength(asked_of(helps=0.7, sureness=sureness))
    assert (a + 1.5 * b) / max(sureness, 1.0) == pytest.approx(0.7, abs=0.2)


@pytest.mark.parametrize("sureness", [0.5, 1.0, 4.0])
def test_another_users_interest_stays_silent(sureness):
    asked = asked_of(helps=0.7, sureness=sureness)
    order = np.roll(np.arange(USERS), 1)
    assert fit_strength(replace(asked, interest=asked.interest[order])) == (0.0, 0.0)
    assert fit_strength(replace(asked, interest=torch.zeros_like(asked.interest))) == (0.0, 0.0)


def test_the_filters_own_share_is_at_most_all_of_its_scores_and_makes_no_gain_of_the_interest():
    """A filter that is too sure of itself is helped by anything that dampens it; that alone is no reason to speak."""
    asked = asked_of(helps=0.0, sureness=6.0)
    against = replace(asked, interest=-asked.known.masked_fill(asked.known.isneginf(), 0.0))
    assert fit_strength(asked) == (0.0, 0.0)
    assert fit_strength(against) == (0.0, 0.0)


def test_few_users_are_not_enough():
    asked = asked_of(helps=2.0, sureness=1.0)
    few = Asked(asked.known[:10], asked.interest[:10], asked.amount[:10], asked.owners[:10], asked.targets[:10],
                asked.shares[:10])
    assert fit_strength(few) == (0.0, 0.0)
