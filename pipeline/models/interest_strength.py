"""
How strongly a user's long-term interest speaks in the collaborative filter, fitted where nobody knew the answers.

    score += strength(user) * <LTI - mean LTI, item in the space of the interest>,   strength = a + b log(1 + events)

Two numbers, found on the validation window, which neither the filter nor the interest model has learned from. They are
found on half of the users and must help the other half, both ways round; else the interest stays silent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

RIDGE = 1e-4
FEWEST_USERS = 20


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

    def losses(self, strength: Tensor) -> Tensor:
        """Softmax loss of each user, [users]; `strength` [2] is a and b."""
        scores = self.known + (strength[0] + strength[1] * self.amount)[:, None] * self.interest
        log_share = scores.log_softmax(dim=1)[self.owners, self.targets]
        return torch.zeros(len(self.amount)).index_add(0, self.owners, -self.shares * log_share)


def fit_strength(asked: Asked) -> tuple[float, float]:
    """a and b; both 0 where there are too few users, or the interest does not help those on whom it was not fitted by
    more than a standard error."""
    users = len(asked.amount)
    if users < FEWEST_USERS:
        return 0.0, 0.0
    even = torch.arange(users) % 2 == 0
    with torch.no_grad():
        by_others = torch.where(even, asked.losses(_fitted(asked, ~even)), asked.losses(_fitted(asked, even)))
        gains = asked.losses(torch.zeros(2)) - by_others
    if not gains.mean() > gains.std() / users**0.5:
        return 0.0, 0.0
    found = _fitted(asked, torch.ones_like(even))
    return float(found[0]), float(found[1])


def _fitted(asked: Asked, members: Tensor) -> Tensor:
    with torch.enable_grad():
        strength = torch.zeros(2, requires_grad=True)
        optimizer = torch.optim.LBFGS([strength], max_iter=25, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = asked.losses(strength)[members].mean() + RIDGE * strength.square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
    return strength.detach()


def strengths(fitted: tuple[float, float], lengths: np.ndarray) -> np.ndarray:
    """float32 [users] from numbers of events [users]; never below 0, where nobody was to fit on."""
    return np.maximum(fitted[0] + fitted[1] * np.log1p(lengths), 0.0).astype(np.float32)
