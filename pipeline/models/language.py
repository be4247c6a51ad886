"""
A pretrained language model as an encoder of behaviour: it reads the titles of a user's events, one after the other,
and answers after each. Its own weights stand still; what is learned are low-rank additions to its attention (LoRA).

An event is its title's tokens and, after them, one token made of the event's vector (item, type, gap). The state of an
event is what the model makes of that last token. The model is read as a causal one, also where it was pretrained as
one that looks both ways, so that a state never knows a later event.
"""

from __future__ import annotations

import functools
import json

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from pipeline.errors import BadSetting
from pipeline.features.histories import Catalogue
from pipeline.text.encoder import PACKAGED, place_of, text_of

TRANSPOSED = {"gpt2"}
"""Architectures whose matrices are stored as [in, out]."""


@functools.cache
def language_config_of(name: str) -> dict[str, object]:
    """The architecture of a language model, as plain values that are saved with the interest model.

    Args:
        name: a packaged model, a folder, or a hub id.

    Raises:
        BadSetting: there is no such model.
    """
    shape = _read(AutoConfig, name)
    fields = json.loads(shape.to_json_string(use_diff=True))
    own = {key: fields[key] for key in sorted(fields) if not key.startswith("_") and key != "transformers_version"}
    return {**own, "model_type": shape.model_type}


class LanguageEncoder(nn.Module):
    """Built from `config.language_config` alone; `start_from` fetches the pretrained weights once, before training."""

    def __init__(self, config):
        super().__init__()
        fields = {**config.language_config, "is_decoder": True, "use_cache": False}
        shape = AutoConfig.for_model(fields.pop("model_type"), **fields)
        self.tokens_an_event = config.title_tokens + 1
        reach = getattr(shape, "max_position_embeddings", None)
        if reach is not None and config.history_length * self.tokens_an_event > reach:
            raise BadSetting(
                f"`history_length` {config.history_length} with {self.tokens_an_event} tokens for each event is more "
                f"than the {reach} that {config.language_model} can read. Set it to {reach // self.tokens_an_event}."
            )
        self.language = _with_low_rank_additions(AutoModel.from_config(shape), config.lora_rank, config.dropout)
        self.event_in = nn.Linear(config.dim, shape.hidden_size)
        self.event_out = nn.Linear(shape.hidden_size, config.dim)
        self.norm = nn.LayerNorm(config.dim)
        self.register_buffer("titles", torch.zeros(config.num_items, config.title_tokens, dtype=torch.long))
        self.register_buffer("title_lengths", torch.ones(config.num_items, dtype=torch.long))

    def forward(self, tokens: Tensor, times: Tensor, items: Tensor, newest: Tensor | None = None) -> Tensor:
        """tokens [batch, length, dim], items [batch, length] int64 -> [batch, length, dim]; at `newest` [batch] alone,
        [batch, 1, dim], where that is given"""
        batch, length, _ = tokens.shape
        words = self.language.get_input_embeddings()(self.titles[items])                  # [batch, length, T, width]
        read = torch.cat([words, self.event_in(tokens)[:, :, None].to(words.dtype)], dim=2)
        places = torch.arange(self.tokens_an_event, device=items.device)
        real = (places < self.title_lengths[items][..., None]) | (places == self.tokens_an_event - 1)
        real = real.flatten(1).long()                                                     # [batch, length * (T + 1)]
        answered = self.language(
            inputs_embeds=read.flatten(1, 2), attention_mask=real, position_ids=real.cumsum(dim=1) - 1,
        ).last_hidden_state
        events = answered.view(batch, length, self.tokens_an_event, -1)[:, :, -1]
        states = self.norm(tokens + self.event_out(events.to(tokens.dtype)))
        return states if newest is None else states[torch.arange(batch, device=items.device), newest][:, None]

    def start_from(self, name: str, catalogue: Catalogue) -> None:
        """Take over the pretrained weights, and the tokens of every title; additions start at nothing."""
        pretrained = _read(AutoModel, name, use_safetensors=True).float().state_dict()
        own = self.language.state_dict()
        for key in own:
            plain = key.replace(".base_layer", "")
            if plain in pretrained:
                own[key] = pretrained[plain]
            elif "lora_B" in key:
                own[key] = torch.zeros_like(own[key])
        self.language.load_state_dict(own)
        tokenizer = _read(AutoTokenizer, name)
        texts = [text_of(*item) for item in zip(catalogue.titles, catalogue.categories, strict=True)]
        most = self.titles.shape[1]
        for row, text in enumerate(texts):
            found = tokenizer(text, add_special_tokens=False)["input_ids"][:most]
            self.titles[row, : len(found)] = torch.tensor(found, dtype=torch.long)
            self.title_lengths[row] = max(len(found), 1)            # attention to nothing would be no number


def _with_low_rank_additions(model: nn.Module, rank: int, dropout: float) -> nn.Module:
    from peft import LoraConfig, inject_adapter_in_model
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as ATTENTION

    kind = model.config.model_type
    additions = LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=dropout, target_modules=ATTENTION.get(kind, "all-linear"),
        fan_in_fan_out=kind in TRANSPOSED,
    )
    model = inject_adapter_in_model(additions, model)
    for name, value in model.named_parameters():
        value.requires_grad = "lora_" in name
    return model


def _read(kind: type, name: str, **options: object):
    place = place_of(name)
    try:
        return kind.from_pretrained(place, **options)
    except (OSError, ValueError) as error:
        raise BadSetting(
            f"`language_model` is {name!r}, which is neither a packaged model ({', '.join(PACKAGED)}), nor a folder "
            f"with one, nor a hub id that can be loaded: {str(error).splitlines()[0]}"
        ) from error
