"""
The collaborative filter: implicit-feedback factors, warm-started, then fine-tuned with the long-term interest (LTI).

`fit` first learns the factors from histories alone, starting from the previous version's (matched by item id) or from
ALS, and stops early on the validation window. Then the LTI joins. Where the encoder also gives items in its space,
the LTI's products with them are added to the scores, as strongly as helps on the validation window (see
`interest_strength`). Else the LTI is mapped to the factors through a gate, learned on contexts that end at past
moments, each with the LTI of that very moment; for a share of the examples it is left out, so that the model stays
whole without it; how strongly it may speak is chosen on the validation window as well.

When all is chosen, the factors are learned once more from all events, those of the window among them, for as many
epochs as were best; `before_validation` keeps what was chosen, for a hybrid that chooses its weights there.
"""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from pipeline.features.histories import FIRST_ITEM, Catalogue, Histories, microseconds_of
from pipeline.models.factor_model import FactorModel
from pipeline.models.factor_start import start as begin
from pipeline.models.factor_training import MOST_FOR_THE_MEAN, FactorTraining
from pipeline.models.interest_strength import fit_strength, strengths
from pipeline.models.interest_vectors import Encode
from pipeline.models.recommender import mask_special_items
from pipeline.models.user_examples import trend_at

WEIGHTS, FACTS = "collaborative_filter.safetensors", "collaborative_filter.json"


@dataclass(frozen=True)
class CollaborativeFilterConfig:
    """What is saved with the weights. Every field changes something."""

    factors: int = 32
    start_size: float = 1.0
    """largest norm of a factor at a start from ALS"""
    context_length: int = 200
    """newest events that are read of a history"""
    horizon_days: float = 14.0
    max_targets: int = 30
    include_seen: bool = False
    """whether items that the user has had are asked for again"""
    cuts_per_user: int = 2
    """examples of each user in an epoch"""
    interest_examples: int = 4_000
    """contexts for which the LTI is computed, for the second phase"""
    interest_dropout: float = 0.3
    history_dropout: float = 0.3
    batch_size: int = 256
    learning_rate: float = 0.001
    weight_decay: float = 0.03
    max_epochs: int = 60
    patience: int = 6
    max_seconds: float = 60.0
    """after which no new epoch of a phase is begun"""
    full_softmax_items: int = 6_000
    """above so many items the softmax is sampled"""
    negatives: int = 2_048
    learn_the_window: bool = True
    """whether the factors are learned again from all events when everything has been chosen on the window"""
    new_days_only: bool = False
    """whether a fit that follows on the last version learns, when all is chosen, from the days after it alone"""
    validation_days: float = 14.0
    """where no start of the validation window is given"""
    seed: int = 7


@dataclass
class CollaborativeFilter:
    """See the module's docstring. After `fit` or `load` it is a recommender; `scores` takes LTI vectors too."""

    config: CollaborativeFilterConfig = CollaborativeFilterConfig()
    space_id: str = ""
    """the space of the LTI vectors that it was tuned with; empty: tuned without"""
    interest_version: str = ""
    name: str = "collaborative_filter"
    interest_scale: float = 0.0
    """how strongly the LTI speaks, chosen on the validation window"""
    interest_strength: tuple[float, float] = (0.0, 0.0)
    """how strongly the LTI's products with the items speak: a + b log(1 + events)"""
    interest_items: np.ndarray | None = None
    """float32 [num_items, dim]: the items in the space of the LTI"""
    learned_until: int = 0
    """microseconds since 1970: events before then were learned from; 0: not known"""
    earlier: CollaborativeFilter | None = field(default=None, repr=False)
    curves: dict[str, list[float]] = field(default_factory=dict)
    """validation loss by epoch of the two phases; the first value is the start"""

    def fit(
        self,
        histories: Histories,
        catalogue: Catalogue,
        as_of: datetime,
        *,
        validation_start: datetime | None = None,
        encode: Encode | None = None,
        item_vectors: np.ndarray | None = None,
        previous: CollaborativeFilter | None = None,
        parts: tuple[Histories, Histories] | None = None,
    ) -> CollaborativeFilter:
        """Learn from events before `validation_start`, stop and calibrate on those from there up to `as_of`.

        Args:
            histories: events before `as_of`.
            validation_start: where training ends; `validation_days` before `as_of` when not given.
            encode: gives the LTI of any histories, float32 [users, dim]; it is asked for past moments too, and must
                itself have been trained on nothing after `validation_start`, or have a `before_validation` of which
                that is true. None: no second phase.
            item_vectors: [num_items, text dim], text that lets an item without events have factors.
            previous: the last version, from whose factors the last phase starts for the items that it knew; the first
                one does so too unless that version has learned from the window.
            parts: what to learn from and what to choose on, of the same users, where they are not the events before
                and after `validation_start`. Without a `validation_start` each user is then asked at the newest event
                of the first part (leave one out).
        """
        start = validation_start or as_of - timedelta(days=self.config.validation_days)
        past, current = parts or (histories.before(start), histories.between(start, as_of))
        text = None if item_vectors is None else torch.from_numpy(np.asarray(item_vectors, dtype=np.float32))
        early = getattr(encode, "before_validation", encode)
        in_space = hasattr(encode, "item_vectors")
        interest_dim = 1 if early is None else early(past.take(np.arange(min(1, past.num_users)))).shape[1]
        self.catalogue, self.event_types = catalogue, histories.event_types

        def started(known: Histories, moment: datetime, last: CollaborativeFilter | None) -> FactorModel:
            torch.manual_seed(self.config.seed)
            text_dim = 0 if text is None else text.shape[1]
            model = FactorModel(
                catalogue.num_items, self.config.factors, interest_dim, len(histories.event_types), text_dim
            )
            begin(model, known, catalogue, moment, self.config.start_size, self.config.seed, last)
            return model

        with torch.random.fork_rng(devices=[]):
            # A version that has learned from the window would be judged by what it has seen.
            unbiased = previous is not None and 0 < previous.learned_until <= microseconds_of(start)
            model = started(past, start, previous if unbiased else None)
            training = FactorTraining(self.config, model, text, past, current, validation_start if parts else start)
            self.curves = {"history": training.learn_history()}
            self.interest_scale, self.interest_strength, self.interest_items = 0.0, (0.0, 0.0), None
            if in_space:
                self.interest_items = early.item_vectors()
                self.interest_strength = fit_strength(training.ask_with_interest(early, self.interest_items))
            elif early is not None:
                self.curves["interest"] = training.learn_interest(early)
                self.interest_scale = training.choose_interest_scale()
            best = int(np.argmin(self.curves["history"]))
            self._take(model, text)
            self.learned_until = microseconds_of(start)
            self.observe(histories, as_of)
            self.earlier = None
            if self.config.learn_the_window and current.num_events and (in_space or early is None):
                self.earlier = copy.copy(self)
                again = started(histories, as_of, previous)
                with torch.no_grad():
                    again.interest_mean.copy_(model.interest_mean)
                nobody = current.take([])
                since = previous.learned_until if previous is not None and self.config.new_days_only else None
                FactorTraining(self.config, again, text, histories, nobody, as_of, since).learn_history(best)
                self._take(again, text)
                self.learned_until = microseconds_of(as_of)
        if in_space:
            self.interest_items = encode.item_vectors()
            if self.earlier is not None:
                with torch.no_grad():
                    recent = histories.take(np.flatnonzero(histories.lengths > 0)[:MOST_FOR_THE_MEAN])
                    self.model.interest_mean.copy_(torch.from_numpy(encode(recent)).mean(dim=0))
        return self

    @property
    def before_validation(self) -> CollaborativeFilter:
        """The filter as it was before it learned from its validation window; itself where it never did. Not saved."""
        return self.earlier or self

    def _take(self, model: FactorModel, text: torch.Tensor | None) -> None:
        """Let `model` be the one that answers; what text says becomes part of the factors."""
        with torch.no_grad():
            tables = model.tables(text)
            model.item_factors.copy_(tables[0].clone())
            model.history_factors.copy_(tables[1].clone())
        model.text_to_item = model.text_to_history = None
        self.model = model.eval()

    def observe(self, histories: Histories, as_of: datetime) -> CollaborativeFilter:
        """Let the popularity part know all users' events before `as_of`; weights stay as they are."""
        self.trend = trend_at(histories, self.catalogue.num_items, as_of)
        return self

    def scores(self, histories: Histories, as_of: datetime, lti: np.ndarray | None = None) -> np.ndarray:
        """Score every item for every user.

        Args:
            lti: float32 [users, dim] of the same users in the space `space_id`; a row of zeros, or None: no vector.

        Raises:
            ValueError: vectors of another number of users or dimensions.
        """
        dim = self.model.interest.in_features
        vectors = np.zeros((histories.num_users, dim), dtype=np.float32) if lti is None else np.asarray(lti)
        if vectors.shape != (histories.num_users, dim):
            raise ValueError(
                f"LTI of shape {vectors.shape}, expected {(histories.num_users, dim)}: one vector a user, of the "
                f"space {self.space_id or '(none)'} that this version was tuned with."
            )
        with torch.inference_mode():
            interest = torch.from_numpy(vectors.astype(np.float32))
            recent = histories.last(self.config.context_length)
            users = self.model.users(self.model.history_factors, recent, interest, None, self.interest_scale)
            items = self.model.item_factors
            if self.interest_items is not None and any(self.interest_strength):
                strength = torch.from_numpy(strengths(self.interest_strength, recent.lengths))[:, None]
                given = (interest != 0).any(dim=1, keepdim=True)
                own = (interest - self.model.interest_mean) * given * strength
                users = torch.cat([users, own], dim=1)                                 # one product of both together
                items = torch.cat([items, torch.from_numpy(self.interest_items)], dim=1)
            found = torch.addmm(self.model.offsets_of(torch.from_numpy(self.trend)), users, items.T)
        return mask_special_items(found.numpy())

    def save(self, folder: Path) -> None:
        """Write weights (safetensors) and facts (JSON) into `folder`, which is made when it is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: np.ascontiguousarray(value.detach().numpy()) for name, value in self.model.named_parameters()}
        weights["trend"] = np.ascontiguousarray(self.trend)
        if self.interest_items is not None:
            weights["interest_items"] = np.ascontiguousarray(self.interest_items)
        save_file(weights, folder / WEIGHTS)
        facts = {
            "format": 3,
            "config": asdict(self.config),
            "space_id": self.space_id,
            "interest_version": self.interest_version,
            "interest_scale": self.interest_scale,
            "interest_strength": list(self.interest_strength),
            "event_types": list(self.event_types),
            "learned_until": self.learned_until,
            "curves": self.curves,
            "catalogue": {
                "item_ids": self.catalogue.item_ids[FIRST_ITEM:],
                "titles": self.catalogue.titles[FIRST_ITEM:],
                "categories": self.catalogue.categories[FIRST_ITEM:],
            },
        }
        (folder / FACTS).write_text(json.dumps(facts, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> CollaborativeFilter:
        """Read what `save` wrote; nothing in the folder is executed."""
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        weights = load_file(folder / WEIGHTS)
        items = facts["catalogue"]
        found = cls(
            config=CollaborativeFilterConfig(**facts["config"]),
            space_id=facts["space_id"],
            interest_version=facts["interest_version"],
            interest_scale=facts["interest_scale"],
            interest_strength=tuple(facts["interest_strength"]),
            learned_until=facts.get("learned_until", 0),
            curves=facts["curves"],
        )
        found.catalogue = Catalogue.of(list(zip(items["item_ids"], items["titles"], items["categories"], strict=True)))
        found.event_types = tuple(facts["event_types"])
        found.trend = weights.pop("trend")
        found.interest_items = weights.pop("interest_items", None)
        num_items, factors = weights["item_factors"].shape
        model = FactorModel(num_items, factors, weights["interest.weight"].shape[1], len(found.event_types))
        model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
        found.model = model.eval()
        return found
