"""
Gives every item a text vector: its title and categories through the language model, whitened, once; and serves it.

The whitening is fitted on the items of the first run and kept in the lake, so vectors of later items lie in the same
space, whichever machine makes them. Another encoder, or the same one reading another number of tokens, has its own
whitening and its own space.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict

from pipeline.contracts import ITEM_TEXT, ITEM_TEXT_SPACES, ITEMS
from pipeline.errors import NotFound
from pipeline.observability import get_logger
from pipeline.settings import Settings
from pipeline.stores.feature_store import push_online
from pipeline.stores.locks import alone
from pipeline.stores.tables import Lake
from pipeline.text.whitening import Whitening

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
        EngineFailure: another process has been embedding for long. Worth a retry.
    """
    lake = Lake.of(settings)
    with alone(settings, ITEM_TEXT.name):                    # two runs at once would fit two spaces
        result = _embed(lake, settings, known_at)
        # All of the space, not the new ones alone: a run that died before its push is made good by the next one.
        rows = lake.scan(ITEM_TEXT).filter(pl.col("space_id") == result.space_id).collect()
        result = result.model_copy(update={"pushed": push_online(settings, ITEM_TEXT.name, rows).accepted})
    log.info("items embedded", **result.model_dump())
    return result


def text_space(lake: Lake, settings: Settings) -> str:
    """The space of the encoder in the settings; empty while no item has a vector of any.

    Raises:
        NotFound: items have vectors, but of other encoders alone: a model would quietly be trained without texts.
    """
    if whitening := _whitening_of(lake, settings):
        return whitening.space_id
    others = sorted(lake.scan(ITEM_TEXT).select("space_id").unique().collect()["space_id"])
    if others:
        raise NotFound(
            f"{ITEM_TEXT.name} in {lake.url} holds vectors of {', '.join(others)}, but {ITEM_TEXT_SPACES.name} has no "
            f"space of the encoder {_encoder_id(settings)!r}. Nothing was trained. `interest train` embeds the items "
            "first; or set `text.encoder` and `text.max_tokens` back to what the items were embedded with."
        )
    return ""


def _embed(lake: Lake, settings: Settings, known_at: datetime) -> EmbeddedItems:
    items = lake.scan(ITEMS).filter(pl.col("valid_from") <= known_at).collect()
    items = items.sort("item_id", "valid_from").unique("item_id", keep="first", maintain_order=True)
    standing, whitening = lake.scan(ITEM_TEXT).collect(), _whitening_of(lake, settings) or _adopted(lake, settings)
    space = whitening.space_id if whitening else ""
    fresh = items.join(standing.filter(pl.col("space_id") == space), on="item_id", how="anti") if space else items
    if fresh.is_empty():
        return EmbeddedItems(space_id=space, items=items.height, embedded=0, version=lake.version(ITEM_TEXT))
    raw = _raw_vectors(fresh, settings)
    whitening = whitening or _keep(lake, Whitening.fit(raw, _encoder_id(settings)))
    rows = pl.DataFrame(
        {
            "item_id": fresh["item_id"],
            "vector": pl.Series(whitening.apply(raw).tolist(), dtype=pl.List(pl.Float32)),
            "space_id": [whitening.space_id] * fresh.height,
            "event_timestamp": fresh["valid_from"],
            "created": [known_at] * fresh.height,
        },
        schema=ITEM_TEXT.schema,
    )
    version = lake.overwrite(ITEM_TEXT, pl.concat([standing, rows])).version
    return EmbeddedItems(space_id=whitening.space_id, items=items.height, embedded=fresh.height, version=version)


def _raw_vectors(items: pl.DataFrame, settings: Settings) -> np.ndarray:
    """What the language model says of the items, float32 [items, width]."""
    from pipeline.text.encoder import TextEncoder, text_of
    from pipeline.training.device import choose_device

    text = settings.text
    device = str(choose_device(settings.training.device))
    encoder = TextEncoder(text.encoder, text.batch_size, text.max_tokens, device)
    return encoder.embed([text_of(title, tags) for title, tags in items.select("title", "categories").iter_rows()])


def _whitening_of(lake: Lake, settings: Settings) -> Whitening | None:
    """The whitening of the present encoder, where it was fitted."""
    own = lake.scan(ITEM_TEXT_SPACES).filter(pl.col("encoder") == _encoder_id(settings)).collect()
    if own.is_empty():
        return None
    mean, projection = (own[name][0].to_numpy().astype(np.float32) for name in ("mean", "projection"))
    return Whitening(_encoder_id(settings), mean, projection.reshape(len(mean), -1))


def _keep(lake: Lake, whitening: Whitening) -> Whitening:
    row = (whitening.encoder, whitening.space_id, whitening.mean.tolist(), whitening.projection.ravel().tolist())
    fresh = pl.DataFrame([row], ITEM_TEXT_SPACES.schema, orient="row")
    lake.overwrite(ITEM_TEXT_SPACES, pl.concat([lake.scan(ITEM_TEXT_SPACES).collect(), fresh]))
    return whitening


def _adopted(lake: Lake, settings: Settings) -> Whitening | None:
    """What an earlier release kept in a file of the home, brought into the lake: the space stays what it is."""
    name = hashlib.sha256(_encoder_id(settings).encode()).hexdigest()[:12]
    file = settings.place(f"models/item_text/whitening-{name}.safetensors")
    return _keep(lake, Whitening.load(file)) if file.is_file() else None


def _encoder_id(settings: Settings) -> str:
    return f"{settings.text.encoder}|{settings.text.max_tokens} tokens"
