"""
The interest-evolution model: from a user's events to what the user wants next, in the coming weeks, and as a vector.

An event's token is the item's vector (an id embedding plus the projected vectors of its text and of its other
modalities), its type, and the gap to the event before. One causal encoder, whose state the pooled history joins, and
several heads. Popularity of the last 7 and 30 days enters the item scores as a logit of its own, so that the encoder is
left with what is personal.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from pipeline.features.histories import FIRST_ITEM, Catalogue
from pipeline.features.training_rows import TREND_DAYS
from pipeline.models.encoders import build_encoder, gap_buckets, gaps_before
from pipeline.models.heads import InterestHeads
from pipeline.models.history_pool import HistoryPool
from pipeline.models.interest_answers import InterestAnswers
from pipeline.models.interest_config import InterestEvolutionConfig
from pipeline.models.interest_losses import ItemRows, interest_losses
from pipeline.models.language import LanguageEncoder
from pipeline.models.losses import LossBalance
from pipeline.models.modalities import ModalityPart
from pipeline.models.noise_filter import NoiseFilter
from pipeline.models.saved_interest import SavedInterest

transformers_logging.disable_progress_bar()  # One small file needs no bar in a task's log.


class InterestEvolutionModel(InterestAnswers, SavedInterest, PreTrainedModel):
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
        self.modalities = nn.ModuleDict({
            name: ModalityPart(config.num_items, width, config.dim) for name, width in config.modality_dims.items()
        })
        self.history_pool = HistoryPool(config.num_items, config.dim) if config.pools_history else None
        self.event_type = nn.Embedding(len(config.event_types) + 1, config.dim)
        self.gap = nn.Embedding(config.gap_buckets, config.dim)
        self.token_norm = nn.LayerNorm(config.dim)
        self.noise_filter = NoiseFilter(config.dim) if config.noise_filter else None
        self.encoder = build_encoder(config)
        self.heads = InterestHeads(
            config.dim, len(config.categories), len(config.event_types), len(TREND_DAYS), config.reads_trend
        )
        self.balance = LossBalance(
            {"next": config.next_weight, "future": config.future_weight, "mix": config.mix_weight,
             "type": config.type_weight},
            config.learned_balance,
        )
        self.register_buffer("text_vectors", torch.zeros(config.num_items, config.text_dim))
        self.register_buffer("category_shares", torch.zeros(config.num_items, len(config.categories)))
        self.register_buffer("trained_items", torch.zeros(config.num_items, dtype=torch.bool))
        self.register_buffer("trend", torch.zeros(len(TREND_DAYS), config.num_items))
        self.post_init()

    @classmethod
    def for_catalogue(
        cls, config: InterestEvolutionConfig, catalogue: Catalogue, text_vectors: np.ndarray | None, seed: int,
        item_start: np.ndarray | None = None, modalities: dict[str, np.ndarray] | None = None,
    ) -> InterestEvolutionModel:
        """A model with fresh weights for `catalogue`.

        Args:
            config: its `num_items`, `text_dim` and `modality_dims` must fit what follows.
            text_vectors: float32 [num_items, text_dim], rows of zeros where an item has no text; not read where
                `config.text_dim` is 0.
            item_start: float32 [num_items, dim], what the items' own vectors start from instead of chance; see
                `item_start`. The next item is then looked for, at first, near the newest one.
            modalities: see `modality_vectors`; those that `config.modality_dims` does not name are not read.
        """
        torch.manual_seed(seed)
        model = cls(config)
        model.catalogue = catalogue
        if text_vectors is not None and config.text_dim:
            model.text_vectors.copy_(torch.from_numpy(np.ascontiguousarray(text_vectors)))
        for name, part in model.modalities.items():
            part.vectors.copy_(torch.from_numpy(modalities[name]))
        columns = [catalogue.category_names.index(name) for name in config.categories]
        model.category_shares.copy_(torch.from_numpy(catalogue.category_matrix()[:, columns]))
        nn.init.zeros_(model.heads.mix_change.weight)                    # at first, what comes is like what was
        if isinstance(model.encoder, LanguageEncoder):
            model.encoder.start_from(config.language_model, catalogue)
        if item_start is not None:
            with torch.no_grad():
                model.item_id.weight.add_(torch.from_numpy(item_start))
                nn.init.eye_(model.heads.next_query.weight)
                if model.history_pool is not None:
                    model.history_pool.vectors.weight.copy_(torch.from_numpy(item_start))
        return model

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.05)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    # ---- tensors

    @cached_property
    def described(self) -> Tensor:
        """[num_items] bool, on the CPU: items of which more than the id is known."""
        known = self.text_vectors.any(dim=1)
        for part in self.modalities.values():
            known = known | part.vectors.any(dim=1)
        return known.cpu()

    def item_table(self, dropped: Tensor | None = None, items: Tensor | None = None) -> Tensor:
        """[num_items, dim], or [items, dim] of the given ones: item vectors. `dropped` [num_items] bool leaves some
        to their text and other modalities alone.

        An item that was in no training event has no id part, outside training too.
        """
        kept = self.trained_items if dropped is None else self.trained_items & ~dropped
        ids, texts = self.item_id.weight, self.text_vectors
        if items is not None:
            kept, ids, texts = kept[items], nn.functional.embedding(items, ids), texts[items]
        table = ids * kept[:, None]
        if self.item_text is not None:
            table = table + self.item_text(texts)
        for part in self.modalities.values():
            table = table + part(items)
        return table

    def states(
        self, table: Tensor, items: Tensor, types: Tensor, times: Tensor, named: Tensor | None = None,
        newest: Tensor | None = None,
    ) -> Tensor:
        """items, types, times [batch, length] int64 -> [batch, length, dim].

        Args:
            named: the items' own numbers, where `items` are rows of a `table` that does not hold all of them.
            newest: [batch] int64, the only positions that are wanted: [batch, 1, dim] comes out.
        """
        times = times if self.config.reads_time else torch.zeros_like(times)
        gaps = gap_buckets(gaps_before(times), self.config.gap_buckets)
        vectors = nn.functional.embedding(items, table)
        tokens = self.token_norm(vectors + self.event_type(types) + self.gap(gaps))
        if self.noise_filter is not None:
            tokens = self.noise_filter(tokens, vectors)
        tokens = nn.functional.dropout(tokens, self.config.dropout, self.training)
        named = items if named is None else named
        states = self.encoder(tokens, times, named, newest)
        if self.history_pool is not None:
            states = states + self.history_pool(named, self.trained_items, self.config.dropout, newest)
        return states

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
            losses = interest_losses(
                self.heads, self.config, states.float(), table, self.category_shares, batch, self._closed()
            )
            return {"loss": self.balance(losses, batch.get("share", 1.0)), **losses}

    def _closed(self) -> Tensor:
        """[num_items] bool: no item, and while training what nobody has had yet, which was no choice turned down."""
        closed = ~self.trained_items if self.training else torch.zeros_like(self.trained_items)
        return closed.index_fill(0, torch.arange(FIRST_ITEM, device=self.device), True)

    def prepared(self, batch: dict[str, Tensor], generator: torch.Generator | None) -> dict[str, Tensor]:
        """The batch, and while training what is drawn for it: `dropped` [num_items] bool, `asked` [batch, length] bool.

        A batch that has them is left as it is, so that one drawn as a whole can be cut into parts.
        """
        if not self.training or generator is None or "asked" in batch:
            return batch
        dropped = torch.rand(self.config.num_items, generator=generator) < self.config.item_dropout
        dropped &= self.described                                               # of others nothing would be left
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
