"""Embeds the titles and categories of a catalogue once, and keeps the vectors in a folder for the next run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from pipeline.contracts import UNCATEGORISED, UNKNOWN_TITLE
from pipeline.features.histories import FIRST_ITEM, Catalogue
from pipeline.training.epochs import fingerprint_of


def text_vectors(
    catalogue: Catalogue, folder: Path, encoder: str, batch_size: int, max_tokens: int
) -> tuple[np.ndarray | None, str]:
    """float32 [num_items, dim] and the id of their space; None where no item has a title or a category.

    An item without text has a row of zeros. Raises BadSetting when `encoder` cannot be loaded.
    """
    from pipeline.text.encoder import TextEncoder, text_of
    from pipeline.text.whitening import Whitening

    tags = [tuple(name for name in names if name != UNCATEGORISED) for names in catalogue.categories]
    titles = [title if title != UNKNOWN_TITLE else "" for title in catalogue.titles]
    texts = [text_of(title, names) for title, names in zip(titles, tags, strict=True)]
    described = np.array([index for index, text in enumerate(texts) if index >= FIRST_ITEM and text.strip(" .")])
    if len(described) < 2:
        return None, ""
    name = fingerprint_of(encoder, max_tokens, [texts[index] for index in described])
    place = folder / f"text-{name}.safetensors"
    try:
        raw = load_file(place)["raw"]
    except (OSError, KeyError, SafetensorError):
        raw = TextEncoder(encoder, batch_size, max_tokens).embed([texts[index] for index in described])
        folder.mkdir(parents=True, exist_ok=True)
        draft = place.with_suffix(".draft")
        save_file({"raw": raw}, draft)
        draft.replace(place)
    whitening = Whitening.fit(raw, encoder)
    vectors = np.zeros((catalogue.num_items, whitening.dim), dtype=np.float32)
    vectors[described] = whitening.apply(raw)
    return vectors, whitening.space_id
