"""
Trains the interest model on one stretch of time, chooses its epoch on the next, and lets it learn from that one last.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta

import numpy as np
import torch
from torch import Tensor

from pipeline.evaluation.metrics import ndcg_at_k
from pipeline.features.histories import EPOCH, FIRST_ITEM, Catalogue, Histories
from pipeline.features.training_rows import TrainingRows, build_training_rows
from pipeline.models.interest_config import InterestEvolutionConfig
from pipeline.models.interest_evolution import InterestEvolutionModel
from pipeline.models.item_start import co_occurrence_vectors
from pipeline.models.modalities import modality_vectors
from pipeline.models.recommender import new_events, top_k
from pipeline.training.batches import RowBatches
from pipeline.training.device import choose_device
from pipeline.training.epochs import Fitted, TrainingRun, fingerprint_of, fit_epochs, learning_rate_at
from pipeline.training.final_pass import final_pass, rows_that_reach
from pipeline.training.negatives import SharedNegatives
from pipeline.training.warm_up import warm_up

MOST_RANKED_USERS = 2000
"""At most so many users are ranked after each epoch."""
MOST_VALIDATION_BATCHES = 100
FINAL_EPOCHS = 1_000_000
"""From where on the epochs of the final pass are numbered, so that their draws are their own."""


@dataclass(frozen=True)
class TrainedModel:
    """The model with the weights of `best_epoch` and, unless that was left out, of the final pass after it."""

    model: InterestEvolutionModel
    best_epoch: int
    curves: list[dict[str, float]] = field(repr=False)
    stopped_because: str
    seconds: float
    cpu_seconds: float = 0.0
    tokens: int = 0
    """Real events that were read, over all epochs."""
    steps: int = 0


def train_interest_model(
    histories_train: Histories,
    histories_validation: Histories,
    catalogue: Catalogue,
    text_vectors: np.ndarray | None,
    config: InterestEvolutionConfig,
    run: TrainingRun,
) -> TrainedModel:
    """Train on one stretch of time, choose the epoch on the next one.

    Args:
        histories_train: events before the validation period.
        histories_validation: events of the validation period, of any users.
        text_vectors: float32 [num_items, text_dim], rows of zeros where an item has no text; None for a model
            without text. `config.text_space_id` names their space.
        config: data-dependent fields (`num_items`, `event_types`, `categories`, `text_dim`) are filled in here.
        run: with a `checkpoint_dir` a stopped run is resumed. Its CPU seconds bound both passes together.

    Of the model as it was before the final pass, see `InterestEvolutionModel.before_validation`.
    """
    device = choose_device(run.device)
    text_dim = 0 if text_vectors is None else text_vectors.shape[1]
    modalities = modality_vectors(catalogue)
    widths = {name: vectors.shape[1] for name, vectors in modalities.items()}
    config = config.for_data(catalogue, histories_train.event_types, text_dim, widths)
    start = None
    if config.item_start:
        start = config.item_start * co_occurrence_vectors(histories_train, config.num_items, config.dim, run.seed)
    model = InterestEvolutionModel.for_catalogue(config, catalogue, text_vectors, run.seed, start, modalities)
    model.trained_items[np.unique(histories_train.items[histories_train.items >= FIRST_ITEM])] = True
    model = model.to(device)

    histories_train = histories_train.with_events()
    rows, mix = _rows(histories_train, config), model.category_shares.cpu().numpy()
    batches = RowBatches(rows, mix, config.tokens_a_batch, config.future_samples, run.seed, device)
    negatives = _negatives(config, histories_train, run.seed, device)

    def epoch(number: int):
        for step, batch in enumerate(batches.epoch(number, config.batches_an_epoch)):
            yield batch | negatives(number, step)

    first_part = _first_part(run.max_cpu_seconds, config.final_share)
    warm = warm_up(model, batches.epoch, steps=config.warm_up_steps, seed=run.seed)
    fitted = fit_epochs(
        model,
        epoch,
        lambda model, batch, generator: model(batch, generator),
        Validation(histories_train, histories_validation, config, mix, run.seed, device, negatives(-1, 0)),
        replace(run, max_cpu_seconds=None if first_part is None else max(first_part - warm, 0.0)),
        rate=lambda step: learning_rate_at(step, config.learning_rate, config.warmup_steps),
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        averaging=config.averaging,
        fingerprint=_fingerprint(histories_train, histories_validation, catalogue, text_vectors, config, run),
    )
    fitted = replace(fitted, cpu_seconds=fitted.cpu_seconds + warm)
    everything = histories_train.followed_by(histories_validation)
    if config.final_share and histories_validation.num_events:
        model.keep_earlier(copy.deepcopy(model).to("cpu"))
        fitted = _learn_the_newest(model, everything, int(histories_validation.times.min()), fitted, config, run, mix)
    model = model.to("cpu")
    if everything.num_events:
        model.observe(everything, EPOCH + timedelta(microseconds=int(everything.times.max()) + 1))
    model.name_space()
    return TrainedModel(
        model, fitted.best_epoch, fitted.curves, fitted.stopped_because, fitted.seconds, fitted.cpu_seconds,
        fitted.tokens, fitted.steps,
    )


class Validation:
    """Scores an epoch on what users did after the training data: how likely the model finds it.

    `after` is a later period (a split by time) or each user's own later events (leave one out).
    """

    def __init__(self, before: Histories, after: Histories, config: InterestEvolutionConfig, mix: np.ndarray,
                 seed: int, device: torch.device, negatives: dict[str, Tensor]):
        self.negatives = negatives
        self.tasks: RowBatches | None = None
        self.returning: Histories | None = None
        if after.num_events == 0:
            return
        whole = before.followed_by(after)
        known = np.zeros(whole.num_users, dtype=np.int64)                # events of `before`: a user's first ones
        known[np.searchsorted(whole.user_ids, before.user_ids)] = before.lengths   # users are sorted, and all are there
        is_label = np.arange(whole.num_events) >= (whole.offsets[:-1] + known)[whole.owners]
        # The moment at which the lists are made: of a split by time its border, else the end of what is known.
        self.start = EPOCH + timedelta(microseconds=max(int(after.times.min()), int(before.times.max(initial=-1)) + 1))
        self.before = before
        rows = _rows(whole, config, is_label)
        if rows.num_rows:
            self.tasks = RowBatches(rows, mix, config.tokens_a_batch, config.future_samples, seed, device)
        past, future = whole.keep(~is_label), whole.keep(is_label)
        future = future.before(self.start + timedelta(days=config.horizon_days))
        wanted = new_events(future, past)
        back = np.bincount(future.owners[wanted], minlength=whole.num_users) > 0
        positions = np.flatnonzero(back & (past.lengths > 0))
        if len(positions) > MOST_RANKED_USERS:
            positions = np.sort(np.random.default_rng(seed).choice(positions, MOST_RANKED_USERS, replace=False))
        if len(positions):
            self.returning, self.future = past.take(positions), future.take(positions)

    def __call__(self, model: InterestEvolutionModel) -> dict[str, float]:
        """`score`: minus the item losses on the period. Where users return, `ndcg@10` of new items is shown beside."""
        if self.tasks is None:
            return {"score": 0.0}
        sums: dict[str, float] = {}
        count = 0
        for batch in self.tasks.epoch(0, MOST_VALIDATION_BATCHES):
            size = int((batch["next_items"] > 0).sum())
            count += size
            for name, value in model(batch | self.negatives).items():
                sums[name] = sums.get(name, 0.0) + value.item() * size
        found = {f"validation_{name}": value / max(count, 1) for name, value in sums.items()}
        if self.returning is not None:
            found["validation_ndcg@10"] = self._ndcg(model)
        return {"score": -found["validation_next"] - found.get("validation_future", 0.0), **found}

    def _ndcg(self, model: InterestEvolutionModel) -> float:
        model.observe(self.before, self.start)
        lists, _ = top_k(model.scores(self.returning, self.start), 10, self.returning)
        wanted = new_events(self.future, self.returning)
        pairs = np.unique(self.future.owners[wanted] * model.config.num_items + self.future.items[wanted])
        rows = np.arange(len(lists))[:, None] * model.config.num_items
        hits = np.isin(rows + lists, pairs) & (lists >= 0)
        relevant = np.bincount(pairs // model.config.num_items, minlength=len(lists))
        return float(np.nanmean(ndcg_at_k(hits, relevant, 10)))


def _rows(histories: Histories, config: InterestEvolutionConfig, is_label: np.ndarray | None = None) -> TrainingRows:
    return build_training_rows(
        histories, config.num_items, config.history_length, config.horizon_days, config.period_days, is_label,
        config.new_items_only,
    )


def _first_part(cpu_seconds: float | None, final_share: float) -> float | None:
    return None if cpu_seconds is None else cpu_seconds / (1.0 + final_share)


def _learn_the_newest(model: InterestEvolutionModel, everything: Histories, since: int, fitted: Fitted,
                      config: InterestEvolutionConfig, run: TrainingRun, mix: np.ndarray) -> Fitted:
    """The final pass, in place; so many steps as `final_share` of those that led to the best epoch."""
    device = model.device
    model.trained_items[np.unique(everything.items[everything.items >= FIRST_ITEM])] = True
    rows = rows_that_reach(_rows(everything, config), since)
    batches = RowBatches(rows, mix, config.tokens_a_batch, config.future_samples, run.seed, device)
    negatives = _negatives(config, everything, run.seed, device)
    tokens = 0

    def epoch(number: int) -> Iterator[dict[str, Tensor]]:
        nonlocal tokens
        for step, batch in enumerate(batches.epoch(FINAL_EPOCHS + number)):
            tokens += int((batch["items"] > 0).sum())
            yield batch | negatives(FINAL_EPOCHS + number, step)

    led = fitted.steps * (fitted.best_epoch + 1) / max(len(fitted.curves), 1)
    spare = None if run.max_cpu_seconds is None else max(run.max_cpu_seconds - fitted.cpu_seconds, 0.0)
    steps = math.ceil(led * config.final_share)
    began = time.process_time()
    made = final_pass(
        model, epoch, steps=steps, peak=learning_rate_at(int(led), config.learning_rate, config.warmup_steps),
        weight_decay=config.weight_decay, max_grad_norm=config.max_grad_norm, seed=run.seed, max_cpu_seconds=spare,
        precision=run.precision, peers=run.peers,
    )
    return replace(fitted, steps=fitted.steps + made, tokens=fitted.tokens + tokens,
                   cpu_seconds=fitted.cpu_seconds + time.process_time() - began)


def _negatives(config: InterestEvolutionConfig, histories: Histories, seed: int, device: torch.device):
    """The shared negatives of a batch by epoch and step; nothing where the loss is the full softmax.

    gBCE wants them uniform, and how often each was drawn instead of a correction.
    """
    if config.chosen_loss == "full":
        return lambda epoch, step: {}
    uniform = config.chosen_loss == "gbce"
    power = 0.0 if uniform else config.negative_power
    source = SharedNegatives(histories.items, config.num_items, power, config.negatives)

    def drawn(epoch: int, step: int) -> dict[str, Tensor]:
        items, offsets = source.draw(np.random.default_rng([seed, epoch + 1, step]))
        if uniform:
            offsets = offsets + source.log_q[items]
        found = {"negatives": items, "negative_offsets": offsets}
        return {name: torch.from_numpy(values).to(device) for name, values in found.items()}

    return drawn


def _fingerprint(before: Histories, after: Histories, catalogue: Catalogue, text: np.ndarray | None,
                 config: InterestEvolutionConfig, run: TrainingRun) -> str:
    arrays = [array for part in (before, after) for array in (part.offsets, part.items, part.types, part.times)]
    empty = np.zeros(0, dtype=np.float32)
    arrays += [catalogue.vectors[name] for name in sorted(catalogue.vectors)]
    return fingerprint_of(*arrays, catalogue.item_ids, empty if text is None else text, config.own_fields(),
                          (run.seed, run.device, run.precision))
