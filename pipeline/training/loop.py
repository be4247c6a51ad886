"""
Trains the interest model on one stretch of time and chooses its epoch on the next.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pipeline.features.histories import EPOCH, FIRST_ITEM, Catalogue, Histories, timedelta
from pipeline.features.training_rows import build_training_rows
from pipeline.models.interest_evolution import InterestEvolutionConfig, InterestEvolutionModel
from pipeline.training.batches import RowBatches
from pipeline.training.device import choose_device
from pipeline.training.epochs import TrainingRun, fingerprint_of, fit_epochs, learning_rate_at
from pipeline.training.negatives import SharedNegatives

VALIDATION_USERS = 2000
"""At most so many users are ranked after each epoch."""


@dataclass(frozen=True)
class TrainedModel:
    """The model with the weights of `best_epoch`, and how it got there."""

    model: InterestEvolutionModel
    best_epoch: int
    curves: list[dict[str, float]] = field(repr=False)
    stopped_because: str
    seconds: float


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
        run: with a `checkpoint_dir` a stopped run is resumed.
    """
    device = choose_device(run.device)
    text_dim = 0 if text_vectors is None else text_vectors.shape[1]
    config = config.for_data(catalogue, histories_train.event_types, text_dim)
    model = InterestEvolutionModel.for_catalogue(config, catalogue, text_vectors, run.seed)
    model.trained_items[np.unique(histories_train.items[histories_train.items >= FIRST_ITEM])] = True
    model = model.to(device)

    histories_train = histories_train.with_events()
    rows = build_training_rows(
        histories_train, config.num_items, config.max_length, config.horizon_days, config.period_days
    )
    categories = [catalogue.category_names.index(name) for name in config.categories]
    mix = catalogue.category_matrix()[:, categories]
    batches = RowBatches(rows, mix, config.tokens_a_batch, config.future_samples, run.seed, device)
    negatives = _negatives(config, histories_train, run.seed, device)

    def epoch(number: int):
        for step, batch in enumerate(batches.epoch(number, config.batches_an_epoch)):
            yield batch | negatives(number, step)

    fitted = fit_epochs(
        model,
        epoch,
        lambda model, batch, generator: model(batch, generator),
        Validation(histories_train, histories_validation, config, mix, run.seed, device),
        run,
        rate=lambda step: learning_rate_at(step, config.learning_rate, config.warmup_steps),
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        fingerprint=_fingerprint(histories_train, histories_validation, catalogue, text_vectors, config, run),
    )
    model = model.to("cpu")
    everything = histories_train.followed_by(histories_validation)
    if everything.num_events:
        model.observe(everything, EPOCH + timedelta(microseconds=int(everything.times.max()) + 1))
    model.name_space()
    return TrainedModel(model, fitted.best_epoch, fitted.curves, fitted.stopped_because, fitted.seconds)


class Validation:
    """Scores an epoch on the period after the training data: how likely the model finds what users then did."""

    def __init__(self, before: Histories, after: Histories, config: InterestEvolutionConfig, mix: np.ndarray,
                 seed: int, device: torch.device):
        self.before, self.after, self.config = before, after, config
        self.tasks: RowBatches | None = None
        self.users, self.targets = Histories.take(before, []), []
        if after.num_events == 0:
            return
        self.start = EPOCH + timedelta(microseconds=int(after.times.min()))
        whole = before.followed_by(after)
        rows = build_training_rows(
            whole, config.num_items, config.max_length, config.horizon_days, config.period_days, self.start
        )
        self.tasks = RowBatches(rows, mix, config.tokens_a_batch, config.future_samples, seed, device)
        past, future = whole.before(self.start), whole.between(self.start, EPOCH + timedelta(days=365_000))
        chosen = []
        for position in range(whole.num_users):
            wanted = set(future.user(position)[0].tolist()) - set(past.user(position)[0].tolist())
            wanted = {item for item in wanted if item >= FIRST_ITEM}
            if wanted and past.lengths[position]:
                chosen.append(position)
                self.targets.append(np.array(sorted(wanted)))
        generator = np.random.default_rng(seed)
        if len(chosen) > VALIDATION_USERS:
            some = np.sort(generator.choice(len(chosen), VALIDATION_USERS, replace=False))
            chosen, self.targets = [chosen[i] for i in some], [self.targets[i] for i in some]
        self.users = past.take(chosen)

    def __call__(self, model: InterestEvolutionModel) -> dict[str, float]:
        if self.tasks is None:
            return {"score": 0.0}
        sums: dict[str, float] = {}
        count = 0
        for batch in self.tasks.epoch(0):
            losses = model(batch)
            weight = int((batch["next_items"] > 0).sum())
            count += weight
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.item() * weight
        means = {f"validation_{name}": value / max(count, 1) for name, value in sums.items()}
        out = {"score": -means["validation_next"] - means["validation_future"], **means}
        if self.targets:
            out |= self.ranked(model)
        return out

    def ranked(self, model):
        model.observe(self.before, self.start)
        out = {}
        keep = model.config.future_share
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            model.config.future_share = share
            scores = model.scores(self.users, self.start)
            nd, rc, ll = [], [], []
            for u, t in enumerate(self.targets):
                s = scores[u].copy()
                s[self.users.user(u)[0]] = -np.inf
                lse = np.logaddexp.reduce(s)
                ll.append(np.clip(s[t] - lse, -30, 0).mean())
                o = np.argsort(-s, kind="stable")[:50]
                hit = np.isin(o, t)
                nd.append((hit[:10] / np.log2(np.arange(10) + 2)).sum() / (1 / np.log2(np.arange(min(10, len(t))) + 2)).sum())
                rc.append(hit.sum() / len(t))
            out |= {f"ndcg_{share}": float(np.mean(nd)), f"recall_{share}": float(np.mean(rc)), f"ll_{share}": float(np.mean(ll))}
        model.config.future_share = keep
        return out


def _negatives(config: InterestEvolutionConfig, histories: Histories, seed: int, device: torch.device):
    """The shared negatives of a batch by epoch and step; nothing where the catalogue allows the full softmax."""
    if config.num_items <= config.full_softmax_items:
        return lambda epoch, step: {}
    source = SharedNegatives(histories.items, config.num_items, config.negative_power, config.negatives)
    log_q = torch.from_numpy(source.log_q).to(device)

    def drawn(epoch: int, step: int) -> dict[str, Tensor]:
        sample = source.draw(np.random.default_rng([seed, epoch, step]))
        return {"negatives": torch.from_numpy(sample).to(device), "log_q": log_q}

    return drawn


def _fingerprint(before: Histories, after: Histories, catalogue: Catalogue, text: np.ndarray | None,
                 config: InterestEvolutionConfig, run: TrainingRun) -> str:
    arrays = [array for part in (before, after) for array in (part.offsets, part.items, part.types, part.times)]
    empty = np.zeros(0, dtype=np.float32)
    return fingerprint_of(*arrays, catalogue.item_ids, empty if text is None else text, config.own_fields(),
                          (run.seed, run.device))
