"""
How strongly a user's long-term interest speaks in the collaborative filter, fitted where nobody knew the answers.

    score += strength(user) * <LTI - mean LTI, item in the space of the interest>,   strength = a + b log(1 + events)

A few numbers, found on the validation window, which neither the filter nor the interest model has learned from. They
are found on half of the users and must help the other half, both ways round; else the interest stays silent.

A filter is surer of what it learned from than it should be of what comes, and then any loss falls when its scores are
toned down (Guo et al. 2017), whatever is added. So a share of them, at most 1, is fitted with the strength, and the
gain is counted from the filter with its own best share and no interest. A share changes no order: it is not kept, the
strength is divided by it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

RIDGE = 1e-4
FEWEST_USERS = 20
FIRST_DOUBT = 0.3
"""Where the fit begins; at 0 it would stay."""


@dataclass(frozen=True)
class Asked:
    """Users of the window, and what is added up to their scores."""

    known: Tensor
    """float32 [users, num_items]: scores without the interest; -inf where an item may not be recommended"""
    interest: Tensor
    """float32 [users, num_items]"""
    amount: Tensor
    """float32 [users]: log(1 + events)"""
    owners: Tensor
    targets: Tensor
    shares: Tensor
    """[targets]: whose, which item, and how much of the user's target mass"""

    def losses(self, speech: Speech) -> Tensor:
        """Softmax loss of each user, [users]."""
        closed = self.known.isneginf()
        strength = speech.strength[0] + speech.strength[1] * self.amount                       # [users]
        scores = self.known.masked_fill(closed, 0.0) * speech.share() + strength[:, None] * self.interest
        log_share = scores.masked_fill(closed, -torch.inf).log_softmax(dim=1)[self.owners, self.targets]
        return torch.zeros(len(self.amount)).index_add(0, self.owners, -self.shares * log_share)


@dataclass(frozen=True)
class Speech:
    """What is fitted."""

    strength: Tensor
    """[2]: a and b"""
    doubt: Tensor
    """[]: the filter's scores count as exp(-doubt²) of themselves"""

    def share(self) -> Tensor:
        return torch.exp(-self.doubt.square())


def fit_strength(asked: Asked) -> tuple[float, float]:
    """a and b; both 0 where there are too few users, or the interest does not help those on whom it was not fitted by
    more than a standard error."""
    users = len(asked.amount)
    if users < FEWEST_USERS:
        return 0.0, 0.0
    even = torch.arange(users) % 2 == 0
    with torch.no_grad():
        silent, told = (
            torch.where(even, asked.losses(_fitted(asked, ~even, speaks)), asked.losses(_fitted(asked, even, speaks)))
            for speaks in (False, True)
        )
    gains = silent - told
    if not gains.mean() > gains.std() / users**0.5:
        return 0.0, 0.0
    found = _fitted(asked, torch.ones_like(even), True)
    a, b = (found.strength / found.share()).tolist()
    return a, b


def _fitted(asked: Asked, members: Tensor, speaks: bool) -> Speech:
    """The least loss of `members` [users] bool; with `speaks` false of the filter alone."""
    with torch.enable_grad():
        speech = Speech(torch.zeros(2, requires_grad=speaks), torch.tensor(FIRST_DOUBT, requires_grad=True))
        fitted = [value for value in vars(speech).values() if value.requires_grad]
        optimizer = torch.optim.LBFGS(fitted, max_iter=25, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = asked.losses(speech)[members].mean() + RIDGE * speech.strength.square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
    return Speech(speech.strength.detach(), speech.doubt.detach())


def strengths(fitted: tuple[float, float], lengths: np.ndarray) -> np.ndarray:
    """float32 [users] from numbers of events [users]; never below 0, where nobody was to fit on."""
    return np.maximum(fitted[0] + fitted[1] * np.log1p(lengths), 0.0).astype(np.float32)
