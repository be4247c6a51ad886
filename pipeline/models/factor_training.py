"""How the collaborative filter's network is trained: two phases, each stopped on the validation window."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pipeline.features.histories import FIRST_ITEM, Histories
from pipeline.models.factor_losses import Batch, full_loss, sampled_loss
from pipeline.models.factor_model import FactorModel
from pipeline.models.interest_strength import Asked
from pipeline.models.interest_vectors import Encode
from pipeline.models.user_examples import Examples, Trend, evenly, examples_at_random, examples_between, trend_at

if TYPE_CHECKING:
    from pipeline.models.collaborative_filter import CollaborativeFilterConfig

INTEREST_SCALES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
MIN_VALIDATION = 10
"""With fewer validation users nothing is chosen on them: a fixed, small number of epochs is trained."""
BLIND_EPOCHS = 8
GATE_SPEED = 10.0
"""How much faster the gate learns than the rest did, once the rest is learned."""
ASKED_CELLS = 6_000_000
"""Bounds the memory of fitting how strongly the interest speaks: users x items."""
MOST_FOR_THE_MEAN = 4_000
VALIDATED_CELLS = 100_000_000
"""Bounds what the loss of an epoch costs: users x items."""


class FactorTraining:
    """One training of one network; seeded, and bounded in time."""

    def __init__(
        self,
        config: CollaborativeFilterConfig,
        model: FactorModel,
        text: Tensor | None,
        past: Histories,
        current: Histories,
        validation_start: datetime | None,
        since: int | None = None,
    ) -> None:
        """
        Args:
            validation_start: when the users of `current` are asked; None: each at the newest event in `past`.
            since: microseconds since 1970, before which no example is cut; None: everything is learned from.
        """
        self.since = since
        self.config, self.model, self.text, self.past = config, model, text, past
        self.rng = np.random.default_rng(config.seed)
        num_items = self.num_items = model.item_bias.shape[0]
        self.trend = Trend(past, num_items)
        asked = examples_between(past.last(config.context_length), current, validation_start, config.include_seen)
        most = max(MIN_VALIDATION, VALIDATED_CELLS // num_items)
        self.validation = asked.take(evenly(asked.num_examples, most))
        # [moments, 3, num_items] and [examples] into it
        trend = self.trend.values if validation_start is None else trend_at(past, num_items, validation_start)[None]
        rows = self.trend.rows(self.validation.moments) if validation_start is None else self.validation.moments * 0
        self.validation_trend, self.validation_rows = torch.from_numpy(trend), torch.from_numpy(rows)
        popular = np.sqrt(np.bincount(past.items, minlength=num_items).astype(np.float64))
        popular[:FIRST_ITEM] = 0.0
        self.negative_share = popular / max(popular.sum(), 1e-9)  # [num_items]

    def learn_history(self, epochs: int | None = None) -> list[float]:
        """Phase one: factors from histories alone, on cuts that are drawn anew for each epoch.

        With `epochs` exactly so many are trained and nothing is chosen.
        """
        rate = self.config.learning_rate
        return self._learn(rate, rate, lambda: (self._cuts(self.config.cuts_per_user), None), epochs)

    def ask_with_interest(self, encode: Encode, item_vectors: np.ndarray) -> Asked:
        """The validation window's users, scored without the interest and by the interest alone; sets the mean."""
        with torch.no_grad():
            sample = self.past.take(np.flatnonzero(self.past.lengths > 0)[:MOST_FOR_THE_MEAN])
            self.model.interest_mean.copy_(torch.from_numpy(encode(sample)).mean(dim=0))
            limit = max(MIN_VALIDATION, ASKED_CELLS // len(item_vectors))
            some = evenly(self.validation.num_examples, limit)
            chosen, rows = self.validation.take(some), self.validation_rows[torch.from_numpy(some)]
            vectors = torch.from_numpy(encode(chosen.context)) - self.model.interest_mean
            item_table, history_table = self.model.tables(self.text)
            silent = torch.zeros(chosen.num_examples, self.model.interest.in_features)
            users = self.model.users(history_table, chosen.context, silent)
            known = users @ item_table.T + self.model.offsets_of(self.validation_trend)[rows]
            known[:, :FIRST_ITEM] = -torch.inf
            if not self.config.include_seen:
                had = torch.from_numpy(chosen.context.items.astype(np.int64))
                known[torch.from_numpy(chosen.context.owners), had] = -torch.inf
        return Asked(
            known,
            vectors @ torch.from_numpy(item_vectors).T,
            torch.from_numpy(np.log1p(chosen.context.lengths).astype(np.float32)),
            torch.from_numpy(chosen.target_owners),
            torch.from_numpy(chosen.targets),
            torch.from_numpy(chosen.shares),
        )

    def learn_interest(self, encode: Encode) -> list[float]:
        """Phase two: the LTI joins, on a fixed set of contexts, because each of them has to be encoded."""
        examples = self._cuts(self.config.cuts_per_user)
        if examples.num_examples > self.config.interest_examples:
            chosen = self.rng.choice(examples.num_examples, self.config.interest_examples, replace=False)
            examples = examples.take(np.sort(chosen))
        vectors = torch.from_numpy(np.asarray(encode(examples.context), dtype=np.float32))
        self.validation_interest = torch.from_numpy(np.asarray(encode(self.validation.context), dtype=np.float32))
        with torch.no_grad():
            self.model.interest_mean.copy_(vectors.mean(dim=0))
        rate = self.config.learning_rate
        return self._learn(rate / 3, rate * GATE_SPEED, lambda: (examples, vectors))

    def choose_interest_scale(self) -> float:
        """The scale with the least validation loss; 1 when there are too few users to choose on."""
        if self.validation.num_examples < MIN_VALIDATION:
            return 1.0
        losses = [self._validation_loss(self.validation_interest, scale) for scale in INTEREST_SCALES]
        return INTEREST_SCALES[int(np.argmin(losses))]

    def _cuts(self, per_user: int) -> Examples:
        config = self.config
        return examples_at_random(
            self.past,
            self.rng,
            per_user,
            config.horizon_days,
            config.max_targets,
            config.context_length,
            config.include_seen,
            self.since,
        )

    def _learn(
        self, learning_rate: float, shared_rate: float, draw: Callable[[], tuple[Examples, Tensor | None]],
        epochs: int | None = None,
    ) -> list[float]:
        """Train until the validation loss stops falling, and leave the best weights in the model.

        Args:
            learning_rate: of the tables of items; `shared_rate`: of what all examples share.
        """
        config, began = self.config, monotonic()
        tables = [self.model.item_factors, self.model.history_factors, self.model.item_bias]
        for projection in (self.model.text_to_item, self.model.text_to_history):  # as many numbers as a table
            tables += [] if projection is None else list(projection.parameters())
        named = {id(table) for table in tables}
        others = [parameter for parameter in self.model.parameters() if id(parameter) not in named]
        optimizer = torch.optim.AdamW(
            [
                {"params": tables, "lr": learning_rate, "weight_decay": config.weight_decay},
                {"params": others, "lr": shared_rate, "weight_decay": 0.0},
            ]
        )
        blind = epochs is not None or self.validation.num_examples < MIN_VALIDATION
        curve = [self._validation_loss(getattr(self, "validation_interest", None))]
        best, best_epoch, best_weights = curve[0], 0, _copy(self.model)
        most = epochs if epochs is not None else BLIND_EPOCHS if blind else config.max_epochs
        for epoch in range(1, most + 1):
            if monotonic() - began > config.max_seconds:
                break
            examples, vectors = draw()
            order = self.rng.permutation(examples.num_examples)
            for first in range(0, len(order), config.batch_size):
                positions = order[first : first + config.batch_size]
                batch = examples.take(positions)
                interest = self._silence(len(positions))
                if vectors is not None:
                    heard = torch.from_numpy(self.rng.random(len(positions)) >= config.interest_dropout)
                    interest = vectors[torch.from_numpy(positions)] * heard[:, None]
                kept = torch.from_numpy(
                    (self.rng.random(batch.context.num_events) >= config.history_dropout).astype(np.float32)
                )
                rows = torch.from_numpy(self.trend.rows(batch.moments))
                loss = self._loss(Batch(batch, interest, torch.from_numpy(self.trend.values), rows, kept))
                if not torch.isfinite(loss):
                    raise FloatingPointError(
                        f"Loss is {loss.item()} at epoch {epoch}: lower the learning rate ({learning_rate}) or look "
                        f"for extreme values in the LTI or text vectors."
                    )
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
                optimizer.step()
            curve.append(self._validation_loss(getattr(self, "validation_interest", None)))
            if blind or curve[-1] < best:
                best, best_epoch, best_weights = curve[-1], epoch, _copy(self.model)
            elif epoch - best_epoch >= config.patience:
                break
        self.model.load_state_dict(best_weights)
        return curve

    def _validation_loss(self, interest: Tensor | None, interest_scale: float = 1.0) -> float:
        if not self.validation.num_examples:
            return float("inf")
        total, special = 0.0, torch.arange(self.num_items) < FIRST_ITEM
        with torch.no_grad():
            for first in range(0, self.validation.num_examples, 1024):
                positions = torch.arange(first, min(first + 1024, self.validation.num_examples))
                batch = Batch(
                    self.validation.take(positions.numpy()),
                    self._silence(len(positions)) if interest is None else interest[positions],
                    self.validation_trend, self.validation_rows[positions], None, interest_scale,
                )
                loss = full_loss(self.model, self.text, batch, special, self.config.include_seen)
                total += float(loss) * len(positions)
        return total / self.validation.num_examples

    def _loss(self, batch: Batch) -> Tensor:
        """What is minimised. An item that nobody has had yet was no choice that anybody turned down."""
        if self.num_items <= self.config.full_softmax_items:
            closed = torch.from_numpy(self.negative_share == 0.0)
            return full_loss(self.model, self.text, batch, closed, self.config.include_seen)
        drawn = self.rng.choice(self.num_items, self.config.negatives, p=self.negative_share)
        log_q = torch.from_numpy(np.log(self.negative_share[drawn] * self.config.negatives).astype(np.float32))
        return sampled_loss(self.model, self.text, batch, drawn, log_q, self.config.include_seen)

    def _silence(self, examples: int) -> Tensor:
        return torch.zeros(examples, self.model.interest.in_features)


def _copy(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
