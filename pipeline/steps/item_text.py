"""
Gives every item a text vector: its title and categories through the language model, whitened, once; and serves it.

The whitening is fitted on the items of the first run and kept, so vectors of later items lie in the same space.
Another encoder, or the same one reading another number of tokens, has its own whitening and its own space.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
from filelock import FileLock
from pydantic import BaseModel, ConfigDict

from pipeline.contracts import ITEM_TEXT, ITEMS
from pipeline.observability import get_logger
from pipeline.settings import Settings
from pipeline.stores.feature_store import push_online
from pipeline.stores.tables import Lake

log = get_logger(__name__)


class EmbeddedItems(BaseModel):
    """How many items have a vector, how many got it in this run, and how many changed what is served."""

    model_config = ConfigDict(frozen=True)

    space_id: str
    """Empty while there is no item."""
    items: int
    embedded: int
    version: int | None
    """Of the Delta table; None while there is no item."""
    pushed: int = 0


def embed_items(settings: Settings, known_at: datetime) -> EmbeddedItems:
    """Embed the items that have no vector in the present space. Twice is the same as once.

    Of an item's descriptions the first one counts, so that a vector never says what was known only later.

    Raises:
        BadSetting: `text.encoder` names no model that can be loaded.
        NotFound: the feature definitions were not applied.
    """
    lake = Lake.of(settings)
    place = whitening_path(settings)
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.with_suffix(".lock")):                # two runs at once would fit two spaces
        result = _embed(lake, place, settings, known_at)
        # All of the space, not the new ones alone: a run that died before its push is made good by the next one.
        rows = lake.scan(ITEM_TEXT).filter(pl.col("space_id") == result.space_id).collect()
        result = result.model_copy(update={"pushed": push_online(settings, ITEM_TEXT.name, rows).accepted})
    log.info("items embedded", **result.model_dump())
    return result


def whitening_path(settings: Settings) -> Path:
    """Where the whitening of the present encoder is kept."""
    name = hashlib.sha256(_encoder_id(settings).encode()).hexdigest()[:12]
    return settings.place(f"models/item_text/whitening-{name}.safetensors")


def _embed(lake: Lake, place: Path, settings: Settings, known_at: datetime) -> EmbeddedItems:
    items = lake.scan(ITEMS).filter(pl.col("valid_from") <= known_at).collect()
    items = items.sort("item_id", "valid_from").unique("item_id", keep="first", maintain_order=True)
    standing = lake.scan(ITEM_TEXT).collect()
    space = _space_of(place)
    fresh = items.join(standing.filter(pl.col("space_id") == space), on="item_id", how="anti") if space else items
    if fresh.is_empty():
        return EmbeddedItems(space_id=space, items=items.height, embedded=0, version=lake.version(ITEM_TEXT))
    space, vectors = _vectors_of(fresh, place, settings)
    rows = pl.DataFrame(
        {
            "item_id": fresh["item_id"],
            "vector": pl.Series(vectors.tolist(), dtype=pl.List(pl.Float32)),
            "space_id": [space] * fresh.height,
            "event_timestamp": fresh["valid_from"],
            "created": [known_at] * fresh.height,
        },
        schema=ITEM_TEXT.schema,
    )
    committed = lake.overwrite(ITEM_TEXT, pl.concat([standing, rows]))
    return EmbeddedItems(space_id=space, items=items.height, embedded=fresh.height, version=committed.version)


def _vectors_of(items: pl.DataFrame, place: Path, settings: Settings) -> tuple[str, np.ndarray]:
    """The space and the vectors, float32 [items, dim]; fits and keeps the whitening where there is none."""
    from pipeline.text.encoder import TextEncoder, text_of
    from pipeline.text.whitening import Whitening
    from pipeline.training.device import choose_device

    text = settings.text
    device = str(choose_device(settings.training.device))
    encoder = TextEncoder(text.encoder, text.batch_size, text.max_tokens, device)
    raw = encoder.embed([text_of(title, tags) for title, tags in items.select("title", "categories").iter_rows()])
    if not place.is_file():
        Whitening.fit(raw, _encoder_id(settings)).save(place)
    whitening = Whitening.load(place)
    return whitening.space_id, whitening.apply(raw)


def _space_of(place: Path) -> str:
    from pipeline.text.whitening import Whitening

    return Whitening.load(place).space_id if place.is_file() else ""


def _encoder_id(settings: Settings) -> str:
    return f"{settings.text.encoder}|{settings.text.max_tokens} tokens"
