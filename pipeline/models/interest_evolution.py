"""
The interest-evolution model: from a user's events to what the user wants next, in the coming weeks, and as a vector.

An event's token is the item's vector (an id embedding plus the projected text vector), its type, and the gap to the
event before. One causal encoder, several heads. Popularity of the last 7 and 30 days enters the item scores as a
logit of its own, so that the encoder is left with what is personal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from pipeline.errors import UnsafeModel
from pipeline.features.histories import FIRST_ITEM, UNKNOWN, Catalogue, Histories
from pipeline.features.training_rows import TREND_DAYS, popularity_at
from pipeline.models.encoders import build_encoder, gap_buckets, gaps_before
from pipeline.models.fixed_batches import fixed_batches
from pipeline.models.heads import InterestHeads
from pipeline.models.interest_config import InterestEvolutionConfig
from pipeline.models.language import LanguageEncoder
from pipeline.models.losses import (
    LossBalance,
    generalised_binary_cross_entropy,
    item_cross_entropy,
    log_normaliser,
    mix_cross_entropy,
    positive_power,
    sampled_cross_entropy,
)
from pipeline.models.recommender import mask_special_items

transformers_logging.disable_progress_bar()  # One small file needs no bar in a task's log.

CATALOGUE_FILE = "catalogue.json"
EARLIER_FILE = "before_validation.safetensors"
LENGTH_STEPS = (1, 8, 16, 32, 64, 128)
TOKENS_AT_ONCE = 1024
USERS_AT_ONCE = 128


class ItemRows(NamedTuple):
    """Vectors of some items, and where each item's is."""

    vectors: Tensor
    """[rows, dim]"""
    place: Tensor
    """[num_items] int64; 0 where an item has none"""


class InterestEvolutionModel(PreTrainedModel):
    """See the module. Made by `for_catalogue` or `from_pretrained`; trained by `training.loop`."""

    config_class = InterestEvolutionConfig
    base_model_prefix = "interest"
    name = "interest_evolution"

    def __init__(self, config: InterestEvolutionConfig):
        super().__init__(config)
        self.catalogue: Catalogue | None = None
        self._earlier: tuple[InterestEvolutionModel, ...] = ()
        self.item_id = nn.Embedding(config.num_items, config.dim)
        self.item_text = nn.Linear(config.text_dim, config.dim, bias=False) if config.text_dim else None
        self.event_type = nn.Embedding(len(config.event_types) + 1, config.dim)
        self.gap = nn.Embedding(config.gap_buckets, config.dim)
        self.token_norm = nn.LayerNorm(config.dim)
        self.encoder = build_encoder(config)
        self.heads = InterestHeads(config.dim, len(config.categories), len(config.event_types), len(TREND_DAYS))
        self.balance = LossBalance(
            {"next": config.next_weight, "future": config.future_weight, "mix": config.mix_weight,
             "type": config.type_weight},
            config.learned_balance,
        )
        self.register_buffer("text_vectors", torch.zeros(config.num_items, config.text_dim))
        self.register_buffer("trained_items", torch.zeros(config.num_items, dtype=torch.bool))
        self.register_buffer("trend", torch.zeros(len(TREND_DAYS), config.num_items))
        self.post_init()

    @classmethod
    def for_catalogue(
        cls, config: InterestEvolutionConfig, catalogue: Catalogue, text_vectors: np.ndarray | None, seed: int,
        item_start: np.ndarray | None = None,
    ) -> InterestEvolutionModel:
        """A model with fresh weights for `catalogue`.

        Args:
            config: its `num_items` and `text_dim` must fit the next two.
            text_vectors: float32 [num_items, text_dim], rows of zeros where an item has no text.
            item_start: float32 [num_items, dim], what the items' own vectors start from instead of chance; see
                `item_start`. The next item is then looked for, at first, near the newest one.
        """
        torch.manual_seed(seed)
        model = cls(config)
        model.catalogue = catalogue
        if text_vectors is not None:
            model.text_vectors.copy_(torch.from_numpy(np.ascontiguousarray(text_vectors)))
        if isinstance(model.encoder, LanguageEncoder):
            model.encoder.start_from(config.language_model, catalogue)
        if item_start is not None:
            with torch.no_grad():
                model.item_id.weight.add_(torch.from_numpy(item_start))
                nn.init.eye_(model.heads.next_query.weight)
        return model

    @property
    def before_validation(self) -> InterestEvolutionModel:
        """The model as it was before it learned from its validation window; itself where it never did.

        What is calibrated on that window, such as weights of a hybrid, is calibrated with this one.
        """
        return self._earlier[0] if self._earlier else self

    def keep_earlier(self, earlier: InterestEvolutionModel) -> None:
        """Remember it; in a tuple, because it is no part of this module's weights."""
        earlier.config, earlier._earlier = self.config, ()
        self._earlier = (earlier,)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.05)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    # ---- tensors

    def item_table(self, dropped: Tensor | None = None, items: Tensor | None = None) -> Tensor:
        """[num_items, dim], or [items, dim] of the given ones: item vectors. `dropped` [num_items] bool leaves some
        to their text alone.

        An item that was in no training event has no id part, outside training too.
        """
        kept = self.trained_items if dropped is None else self.trained_items & ~dropped
        ids, texts = self.item_id.weight, self.text_vectors
        if items is not None:
            kept, ids, texts = kept[items], nn.functional.embedding(items, ids), texts[items]
        table = ids * kept[:, None]
        if self.item_text is not None:
            table = table + self.item_text(texts)
        return table

    def states(self, table: Tensor, items: Tensor, types: Tensor, times: Tensor, named: Tensor | None = None) -> Tensor:
        """items, types, times [batch, length] int64 -> [batch, length, dim]; `named` are the items' own numbers, where
        `items` are rows of a `table` that does not hold all of them"""
        gaps = gap_buckets(gaps_before(times), self.config.gap_buckets)
        tokens = nn.functional.embedding(items, table) + self.event_type(types) + self.gap(gaps)
        tokens = nn.functional.dropout(self.token_norm(tokens), self.config.dropout, self.training)
        return self.encoder(tokens, times, items if named is None else named)

    def forward(self, batch: dict[str, Tensor], generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """The loss and its parts, each a scalar: the mean over the positions that have that label.

        Args:
            batch: see `training.batches`.
            generator: draws, while training, the items that are dropped and the positions whose future is asked
                for (neighbours have nearly the same one); without it none is dropped and all are asked.
        """
        batch = self.prepared(batch, generator)
        table = self._needed_items(batch.get("dropped"), batch)
        items = batch["items"]
        states = self.states(table.vectors, table.place[items], batch["types"], batch["times"], items)
        with torch.autocast(self.device.type, enabled=False):            # a softmax over items wants all its digits
            losses = self._losses(states.float(), table, batch)
            return {"loss": self.balance(losses, batch.get("share", 1.0)), **losses}

    def _losses(self, states: Tensor, table: ItemRows, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        asked, labels = batch.get("asked"), batch.get("labels", {})
        sampled = batch.get("negatives")
        shown = self._followed_trend(batch["trend"] if sampled is None else batch["trend"].index_select(1, sampled))
        losses = {
            "next": self._item_loss("next", states, table, batch["next_items"][..., None], batch, shown),
            "future": self._item_loss("future", states, table, batch["future_items"], batch, shown, asked),
        }
        if self.config.categories:
            has_mix = batch["category_mix"].sum(dim=-1) > 0
            mix = self.heads.category_mix(states[has_mix])
            losses["mix"] = _mean(mix_cross_entropy(mix, batch["category_mix"][has_mix]), labels.get("mix"))
        if len(self.config.event_types) > 1:
            has_next = batch["next_items"] > 0
            types = self.heads.event_type(states[has_next])
            losses["type"] = _mean(
                nn.functional.cross_entropy(types, batch["next_types"][has_next], reduction="none"), labels.get("next")
            )
        return losses

    def prepared(self, batch: dict[str, Tensor], generator: torch.Generator | None) -> dict[str, Tensor]:
        """The batch, and while training what is drawn for it: `dropped` [num_items] bool, `asked` [batch, length] bool.

        A batch that has them is left as it is, so that one drawn as a whole can be cut into parts.
        """
        if not self.training or generator is None or "asked" in batch:
            return batch
        dropped = torch.rand(self.config.num_items, generator=generator) < self.config.item_dropout
        asked = torch.rand(batch["items"].shape, generator=generator) < self.config.future_positions
        return batch | {"dropped": dropped.to(self.device), "asked": asked.to(self.device)}

    def counted(self, batch: dict[str, Tensor]) -> dict[str, dict[str, int]]:
        """`labels`: by how many positions each loss of a prepared batch is divided, for parts of it to know."""
        future = (batch["future_items"] >= FIRST_ITEM).all(dim=-1) & batch["asked"]
        masks = {
            "next": batch["next_items"] >= FIRST_ITEM, "future": future, "mix": batch["category_mix"].sum(dim=-1) > 0,
        }
        return {"labels": {name: int(mask.sum()) for name, mask in masks.items()}}

    def _needed_items(self, dropped: Tensor | None, batch: dict[str, Tensor]) -> ItemRows:
        """The vectors that a batch reads: of all items for the full softmax, else of those that occur or were drawn."""
        places = torch.arange(self.config.num_items, device=self.device)
        if batch.get("negatives") is None:
            return ItemRows(self.item_table(dropped), places)
        occurs = torch.zeros(self.config.num_items, dtype=torch.bool, device=self.device)
        for name in ("items", "next_items", "future_items", "negatives"):
            occurs[batch[name].flatten()] = True
        needed = occurs.nonzero().squeeze(1)
        places = torch.zeros_like(places).index_copy_(0, needed, torch.arange(len(needed), device=self.device))
        return ItemRows(self.item_table(dropped, needed), places)

    def _item_loss(
        self, head: str, states: Tensor, table: ItemRows, targets: Tensor, batch: dict, shown: dict[str, Tensor],
        asked: Tensor | None = None,
    ) -> Tensor:
        """states [batch, length, dim], targets [batch, length, positives] (0 = none), asked [batch, length] bool,
        shown: head → [steps, candidates], what trend adds to the items of the softmax -> scalar"""
        labelled = (targets >= FIRST_ITEM).all(dim=-1)
        labelled = labelled if asked is None else labelled & asked
        goals, query, follow = targets[labelled], *self._ask(head, states[labelled])
        moment = batch["trend_rows"][labelled]                                              # [rows] into [steps]
        sampled = batch.get("negatives")
        candidates = table.vectors if sampled is None else table.vectors.index_select(0, table.place[sampled])
        offsets, hidden = shown[head], None                                                 # [steps, candidates]
        if sampled is None:
            offsets = offsets.index_fill(1, torch.arange(FIRST_ITEM, device=self.device), -torch.inf)
        else:
            offsets = offsets + batch["negative_offsets"]
            column = torch.full_like(table.place, -1).index_copy_(
                0, sampled, torch.arange(len(sampled), device=sampled.device)
            )[goals]                                                                        # [rows, positives]
            hidden = (column >= 0).nonzero()[:, 0], column[column >= 0]
        own = torch.einsum("w,wrp->rp", follow, batch["trend"][:, goals, moment[:, None]])  # [rows, positives]
        wanted = nn.functional.embedding(table.place[goals], table.vectors)
        positives = torch.einsum("rd,rpd->rp", query, wanted) + own
        if self.config.chosen_loss == "gbce":
            drawn = batch["negative_offsets"].exp()
            power = positive_power(self.config.negatives, self.config.num_items - FIRST_ITEM, self.config.calibration)
            refused = query @ candidates.T + shown[head].index_select(0, moment)
            losses = generalised_binary_cross_entropy(positives, refused, drawn, hidden, power)
            return _mean(losses, batch.get("labels", {}).get(head))
        normaliser = log_normaliser(query, candidates, offsets, moment, hidden, self.config.softmax_rows)
        loss = item_cross_entropy if sampled is None else sampled_cross_entropy
        return _mean(loss(positives, normaliser), batch.get("labels", {}).get(head))

    def _followed_trend(self, trend: Tensor) -> dict[str, Tensor]:
        """[windows, items, steps] -> head → [steps, items]: what is popular, weighted as each head follows it"""
        names = ("next", "future")
        follow = torch.stack([self._follow(name) for name in names])                        # [heads, windows]
        weighted = (follow @ trend.flatten(1)).view(len(names), *trend.shape[1:])
        return dict(zip(names, weighted.transpose(1, 2).contiguous(), strict=True))

    def _follow(self, head: str) -> Tensor:
        return self.heads.next_trend if head == "next" else self.heads.long_term_trend

    def _ask(self, head: str, states: Tensor) -> tuple[Tensor, Tensor]:
        """[rows, dim] -> queries [rows, dim] and trend weights [2] of one head"""
        if head == "next":
            return self.heads.next_queries(states), self.heads.next_trend
        return self.heads.long_term_queries(states), self.heads.long_term_trend

    # ---- what the model is asked

    def fit(self, histories: Histories, catalogue: Catalogue, as_of: datetime) -> InterestEvolutionModel:
        """Part of the Recommender protocol; this model is trained by `training.loop` and is only scored here."""
        if self.catalogue is None or catalogue.item_ids != self.catalogue.item_ids:
            raise ValueError(
                "The interest model was trained for another catalogue. Train it with "
                "pipeline.training.loop.train_interest_model before it is compared."
            )
        return self

    def observe(self, histories: Histories, as_of: datetime) -> InterestEvolutionModel:
        """Let the popularity logit know all users' events before `as_of`; weights and space stay as they are."""
        self.trend.copy_(torch.from_numpy(popularity_at(histories, self.config.num_items, as_of)))
        self.config.trend_as_of = as_of.isoformat()
        return self

    @torch.no_grad()
    def newest_states(self, histories: Histories) -> np.ndarray:
        """float32 [users, dim]: each user's state after the newest event, from which everything else is read.

        Batches have fixed shapes, so a user's state is the same bits whoever else is asked for.
        """
        self.eval()
        table = self.item_table()
        recent = histories.last(self.config.history_length)
        output = np.empty((recent.num_users, self.config.dim), dtype=np.float32)
        for positions, rows, length in fixed_batches(recent.lengths, self.config.history_length):
            items = torch.zeros(rows, length, dtype=torch.long)
            types, times = torch.zeros_like(items), torch.zeros_like(items)
            last = torch.zeros(rows, dtype=torch.long)
            for row, position in enumerate(positions):
                parts = recent.user(position)
                size = len(parts[0])
                if size == 0:
                    items[row, 0] = UNKNOWN
                    continue
                last[row] = size - 1
                for target, part in zip((items, types, times), parts, strict=True):
                    target[row, :size] = torch.from_numpy(part.astype(np.int64))
                times[row, size:] = times[row, size - 1]
            device = self.device
            states = self.states(table, items.to(device), types.to(device), times.to(device))
            newest = states[torch.arange(rows, device=device), last.to(device)]                # [rows, dim]
            output[positions] = newest[: len(positions)].float().cpu().numpy()
        return output

    @torch.no_grad()
    def _read(self, states: np.ndarray, width: int, read: Callable[[Tensor], Tensor]) -> np.ndarray:
        """[users, dim] -> float32 [users, width]: what `read` makes of states; in blocks of a fixed size, see above."""
        output = np.empty((len(states), width), dtype=np.float32)
        block = torch.zeros(USERS_AT_ONCE, states.shape[1], device=self.device)
        for first in range(0, len(states), USERS_AT_ONCE):
            some = torch.from_numpy(states[first : first + USERS_AT_ONCE])
            block[: len(some)] = some
            output[first : first + len(some)] = read(block)[: len(some)].float().cpu().numpy()
        return output

    def interest_of(self, states: np.ndarray) -> np.ndarray:
        """`encode`, of states that `newest_states` gave."""
        return self._read(states, self.config.dim, self.heads.long_term_interest)

    @torch.no_grad()
    def scores_of(self, states: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """`scores`, of states that `newest_states` gave; lengths [users] are numbers of events."""
        table, share = self.item_table(), self.config.future_share
        trend = (share * self._follow("future") + (1.0 - share) * self._follow("next")) @ self.trend  # [num_items]
        columns = table.T.contiguous()

        def read(some: Tensor) -> Tensor:
            query = share * self._ask("future", some)[0] + (1.0 - share) * self._ask("next", some)[0]
            return torch.addmm(trend, query * (some != 0).any(dim=1, keepdim=True), columns)

        found = self._read(np.where(lengths[:, None] > 0, states, np.float32(0.0)), self.config.num_items, read)
        return mask_special_items(found)

    def encode(self, histories: Histories) -> np.ndarray:
        """float32 [users, dim], unit length: the long-term interest of each user.

        It depends on the user's own events only. A user without events gets the vector of one unknown event.
        """
        return self.interest_of(self.newest_states(histories))

    @torch.no_grad()
    def item_vectors(self) -> np.ndarray:
        """float32 [num_items, dim]: items in the space of the long-term interest; rows 0 and 1 mean nothing."""
        return self.item_table().cpu().numpy()

    @torch.no_grad()
    def scores(self, histories: Histories, as_of: datetime | None = None) -> np.ndarray:
        """float32 [users, num_items]: logits of the two item heads, weighted by `future_share`.

        -inf at padding and the unknown item. A user without events is scored by the trend alone. `as_of` is part
        of the Recommender protocol: what is known is fixed by `histories` and by the last `observe`.
        """
        return self.scores_of(self.newest_states(histories), histories.lengths)

    def category_mix(self, histories: Histories) -> np.ndarray:
        """float32 [users, categories]: forecast shares of `config.categories` in the next `period_days`."""
        if not self.config.categories:
            return np.zeros((histories.num_users, 0), dtype=np.float32)
        return self._read(
            self.newest_states(histories), len(self.config.categories),
            lambda states: self.heads.category_mix(states).softmax(dim=1),
        )

    def as_recommender(self) -> InterestEvolutionModel:
        return self

    # ---- saved and loaded

    def name_space(self) -> str:
        """Give the vectors' space a name made from every weight that shapes them; kept in the config."""
        digest = hashlib.sha256(self.config.text_space_id.encode())
        for name, value in sorted(self.state_dict().items()):
            if name != "trend":
                digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        self.config.space_id = f"interest-{digest.hexdigest()[:12]}"
        return self.config.space_id

    def save_pretrained(self, save_directory: str | Path, **kwargs) -> None:
        """Write `config.json`, `model.safetensors` (text vectors and trend included) and `catalogue.json`; where there
        is an earlier model, its weights in `before_validation.safetensors`.
        """
        super().save_pretrained(save_directory, **kwargs)
        for earlier in self._earlier:
            weights = {name: value for name, value in earlier.state_dict().items() if name != "text_vectors"}
            save_file({name: value.contiguous() for name, value in weights.items()},
                      Path(save_directory) / EARLIER_FILE)
        if self.catalogue is not None:
            rows = {
                "item_ids": self.catalogue.item_ids[FIRST_ITEM:],
                "titles": self.catalogue.titles[FIRST_ITEM:],
                "categories": self.catalogue.categories[FIRST_ITEM:],
            }
            (Path(save_directory) / CATALOGUE_FILE).write_text(json.dumps(rows), encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | Path, *args, **kwargs) -> InterestEvolutionModel:
        """Load what `save_pretrained` wrote; safetensors only.

        Raises:
            UnsafeModel: the folder lacks a file, or its parts do not fit each other.
        """
        kwargs = {"local_files_only": True, "use_safetensors": True, **kwargs}
        try:
            rows = json.loads((Path(folder) / CATALOGUE_FILE).read_text(encoding="utf-8"))
            catalogue = Catalogue.of(list(zip(rows["item_ids"], rows["titles"], rows["categories"], strict=True)))
            model = super().from_pretrained(folder, *args, **kwargs)
            if (Path(folder) / EARLIER_FILE).exists():
                earlier = cls(model.config)
                weights = load_file(Path(folder) / EARLIER_FILE)
                earlier.load_state_dict({**weights, "text_vectors": model.text_vectors})
                model.keep_earlier(earlier.eval())
        except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
            raise UnsafeModel(f"{folder} does not hold a complete interest model: {error}.") from error
        if catalogue.num_items != model.config.num_items:
            raise UnsafeModel(
                f"{folder}: the catalogue has {catalogue.num_items} rows, the weights {model.config.num_items}. "
                "The files are of different models; fetch the version again."
            )
        for each in (model, *model._earlier):
            each.catalogue = catalogue
        return model.eval()


def _mean(values: Tensor, labels: int | None = None) -> Tensor:
    """Mean of [rows], or their share of the mean over `labels` rows; 0 with a gradient where there is no row."""
    return values.sum() / max(len(values) if labels is None else labels, 1)
